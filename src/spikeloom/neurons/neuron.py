"""The base class of every neuron: one time step in PyTorch, applied over `[T, B, ...]`.

    s_t, v_t = step(x_t, v_{t-1})        t = 1..T, starting from `rest()`

The step is traced and runs as one fused kernel; `backend="eager"` runs it as written.
"""

from collections.abc import Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Literal, NamedTuple, TypedDict, overload

import torch
from torch import Tensor, nn

from spikeloom.compiler.dispatch import Backend, Choice, choose, kernel_source, remember
from spikeloom.compiler.eager import run_eager
from spikeloom.compiler.front.recording import Recording
from spikeloom.compiler.front.step import Signature, Step, compute_dtype
from spikeloom.compiler.function import (
    Binding,
    is_exported,
    is_watched,
    name_in_graph,
    run_direct,
)
from spikeloom.compiler.operators import run_operator
from spikeloom.errors import no_tensor
from spikeloom.neurons.fixed import FixedConstants
from spikeloom.neurons.surrogate import ATan, Surrogate, bound

State = tuple[Tensor, ...]
GivenState = State | None | Literal[False]
"""A state to start from; None: at rest; False: at rest, and no state is asked for."""


_form_of = attrgetter("shape", "dtype", "device")


class Response(NamedTuple):
    """Spikes `[T, B, ...]`; the state after the last step (as of `initial_state`); the requested
    records `[T, B, ...]` by name.
    """

    spikes: Tensor
    state: State
    records: dict[str, Tensor]


class NeuronOptions(TypedDict, total=False):
    """What every neuron takes: see `Neuron`."""

    surrogate: Surrogate | None
    backend: Backend


class Neuron(FixedConstants):
    """A layer of spiking neurons on `[T, B, ...]`, time first.

    A subclass says which states it carries and overrides `step`; `coefs` returns its learnable
    constants:

        class Mine(sl.Neuron):
            states = ("v",)

            def __init__(self, channels):
                super().__init__()
                self.leak = torch.nn.Parameter(torch.zeros(channels))

            def coefs(self):
                return {"k": self.leak.sigmoid()}

            def step(self, x, v, *, k):
                h = v + (x - v) * k
                s = self.surrogate(h - 1.0)
                return s, h * (1 - s)

    A coef is one value, or `[C]` (per channel: axis 2 of the input), or in the shape of one sample
    `[C, ...]` (per neuron); a name in `time_coefs` has a leading time axis `[T]`, `[T, C]`, ...
    Numbers that do not learn are plain Python attributes of the neuron.

    `surrogate`: the surrogate gradient, `ATan(alpha=2.0)` by default. `backend`: "auto" compiles
    where it can, "eager" runs the step in PyTorch, "cpu" and "gpu" insist on that kernel.
    """

    time_first = True
    fires = True
    """Whether the output is spikes; a readout of potentials says False and is left out of firing
    rates, spike counts and the like."""
    states: tuple[str, ...] = ("v",)
    observed: tuple[str, ...] = ()
    time_coefs: tuple[str, ...] = ()

    def __init__(self, *, surrogate: Surrogate | None = None, backend: Backend = "auto") -> None:
        super().__init__()
        if not isinstance(surrogate, nn.Module | None):
            known = sorted(f"{kind.__name__}()" for kind in Surrogate.__subclasses__())
            raise TypeError(
                f"surrogate is {surrogate!r}: give a surrogate object, as {', '.join(known)}"
            )
        self.surrogate = ATan() if surrogate is None else surrogate
        self.backend: Backend = backend

    def coefs(self) -> dict[str, Tensor]:
        """The constants that `step` receives as keyword arguments; autograd reaches the parameters
        behind them.
        """
        return {}

    def rest(self) -> dict[str, float]:
        """The value of each state before the first step; 0 for a state that is not named."""
        return {}

    def step(self, *args: Any, **coefs: Any) -> tuple[Tensor, ...]:
        """One time step: `(spikes, *new_states, *observed)`, elementwise, each in the shape of
        `x`.
        """
        raise TypeError(f"{type(self).__name__} must override step(x, {', '.join(self.states)})")

    def constants(self) -> dict[str, Tensor]:
        """The constants as people name them (`tau`, ...), detached; for logs and reports."""
        return {name: value.detach() for name, value in self.coefs().items()}

    def initial_state(self, x: Tensor) -> State:
        """The state at rest for an input `[T, B, ...]`: one tensor `[B, ...]` per name in
        `states`; where constants differ from step to step (`time_coefs`), then the number of steps
        that have passed, an int64 without axes.
        """
        rest = self.rest()
        shape, dtype = x.shape[1:], compute_dtype(x)
        state = tuple(x.new_full(shape, rest.get(name, 0.0), dtype=dtype) for name in self.states)
        return (*state, torch.tensor(0)) if self.time_coefs else state

    @overload
    def forward(self, x: Tensor) -> Tensor: ...
    @overload
    def forward(self, x: Tensor, state: State | None) -> tuple[Tensor, State]: ...
    @overload
    def forward(self, x: Tensor, state: GivenState, record: tuple[str, ...]) -> Response: ...
    def forward(
        self, x: Tensor, state: GivenState = False, record: tuple[str, ...] | None = None
    ) -> Tensor | tuple[Tensor, State] | Response:
        """Spikes `[T, B, ...]` (0 or 1, in the dtype of `x`) for the input current `x` `[T, B,
        ...]`.

        Without `state` every sample starts at rest. With it (what an earlier call returned, or
        `initial_state(x)`, for which None is another word) the pair `(spikes, state)` comes back,
        and gradients flow through both. With `record` the answer is that of `run`, and forward
        hooks see it.
        """
        if record is not None:
            return Response(*self._run(x, state, record, True))
        spikes, after, _ = self._run(x, state, (), state is not False)
        return spikes if state is False else (spikes, after)

    def run(self, x: Tensor, state: GivenState = False, record: tuple[str, ...] = ()) -> Response:
        """As `forward`, and the sequence `[T, B, ...]` of every state or observed value named in
        `record`.

        Gradients flow through records as through spikes, on every backend; on the way back a loss
        on records runs the step in PyTorch, at its speed and with its memory. Inside
        `torch.compile` records carry none. Forward hooks do not see this call.
        """
        return Response(*self._run(x, state, tuple(record), True))

    def _run(
        self, x: Tensor, start: GivenState, record: tuple[str, ...], want_state: bool
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        if isinstance(start, Tensor):
            raise TypeError(
                f"{type(self).__name__} got a tensor as its state: expected a tuple of tensors, "
                f"one for each of {', '.join(self.states)}, as a call with state=None answers it"
            )
        coefs, rest = self._all_coefs(), self.rest()
        state, clock = start or (), ()
        if self.time_coefs and want_state:
            self._check(x, start, record)
            state, clock, coefs = self._part(x, start, coefs)
        if torch.compiler.is_compiling() or is_watched(x):
            return self._run_watched(x, start, state, clock, coefs, record, want_state)
        tensors = (*state, *coefs.values())
        # all that decides how the kernel is called: one look-up finds it
        try:
            form = (
                *(x.shape, x.stride(), x.dtype, x.device, self.backend, record, want_state),
                *(len(state), tuple(coefs), tuple(rest.items())),
                *map(_form_of, tensors),
            )
        except AttributeError as error:
            raise self._no_tensors(state, coefs) from error
        memo = self.__dict__.get("_memo")
        known = None if memo is None else memo.bindings.get(form)
        if known is not None and known[0](self):
            binding = known[1]
        else:
            binding = self._bind(form, x, start, tensors, coefs, record, want_state)
        if binding is None:
            values = [*coefs.values()]
            spikes, final, records = self._run_eager(tuple(coefs), record, x, state, values)
            return spikes, (*final, *clock), records
        eager = partial(self._run_eager, tuple(coefs), record) if record else None
        spikes, final, series = run_direct(binding, x, tensors, eager)
        return spikes, (*final, *clock), dict(zip(record, series, strict=True))

    def _no_tensors(self, state: State, coefs: dict[str, Tensor]) -> TypeError:
        given = {f"coefs()[{name!r}]": coef for name, coef in coefs.items()}
        given |= {f"state {place}": value for place, value in enumerate(state)}
        name = next(name for name, value in given.items() if not isinstance(value, Tensor))
        return TypeError(
            f"{name} of {type(self).__name__} is a {type(given[name]).__name__}: expected a "
            "tensor; a number that does not learn is a plain attribute of the neuron"
        )

    def _bind(
        self,
        form: tuple[object, ...],
        x: Tensor,
        start: GivenState,
        tensors: tuple[Tensor, ...],
        coefs: dict[str, Tensor],
        record: tuple[str, ...],
        want_state: bool,
    ) -> Binding | None:
        """What runs calls of this form, kept for the next; None if it is the step in PyTorch."""
        self._check(x, start, record)
        names = tuple(coefs)
        program = self._choose(x.device, x.dtype, names).program
        if program is None:
            return None
        count = len(tensors) - len(names)
        binding = Binding(
            program, x, tensors[:count], tensors[count:], self._rest(), record, want_state
        )
        remember(self, (self.backend, x.device, x.dtype, names), form, binding)
        return binding

    def _run_watched(
        self,
        x: Tensor,
        start: GivenState,
        state: State,
        clock: State,
        coefs: dict[str, Tensor],
        record: tuple[str, ...],
        want_state: bool,
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        """A call in operators that whoever looks at it knows: `torch.compile`, a profiler, ..."""
        self._check(x, start, record)
        program = ""
        if not is_exported():
            # what dynamo hands over it guards by identity: the graph serves no other neuron
            where = self if torch.compiler.is_compiling() else None
            program = self._program(x.device.type, x.dtype, tuple(coefs), where)
        if program:
            spikes, final, records = run_operator(
                program, x, state, list(coefs.values()), self._rest(), record, want_state
            )
        else:
            values = [*coefs.values()]
            spikes, final, records = self._run_eager(tuple(coefs), record, x, state, values)
        return spikes, (*final, *clock), records

    def _run_eager(
        self,
        names: tuple[str, ...],
        record: tuple[str, ...],
        x: Tensor,
        state: Sequence[Tensor],
        coefs: list[Tensor],
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        """The step in PyTorch, with coefs of these names."""
        start = state or self.initial_state(x)[: len(self.states)]
        return run_eager(_step_of(self, names), x, list(start), coefs, record)

    def _rest(self) -> tuple[float, ...]:
        """The value of every state before the first step, in their order."""
        rest = self.rest()
        for name, value in rest.items():
            if not isinstance(value, (int, float)):
                raise TypeError(
                    f"rest() of {type(self).__name__} gives {name!r} a {type(value).__name__}: "
                    "expected a number; hand the neuron a state to begin with tensors"
                )
        return tuple([rest.get(name, 0.0) for name in self.states])

    def _part(
        self, x: Tensor, start: GivenState, coefs: dict[str, Tensor]
    ) -> tuple[State, State, dict[str, Tensor]]:
        """The state without its number of steps, that number after `x`, and of the coefs that
        differ from step to step those that belong to `x`.
        """
        if start and is_exported():
            # Which steps these are is known only where the graph will run.
            at = start[-1] + torch.arange(x.shape[0], device=x.device)
            coefs = coefs | {name: coefs[name].index_select(0, at) for name in self.time_coefs}
            return start[:-1], (start[-1] + x.shape[0],), coefs
        begin = int(start[-1]) if start else 0
        end = begin + x.shape[0]
        if start is not False:
            coefs = coefs | {name: coefs[name][begin:end] for name in self.time_coefs}
        return start[:-1] if start else (), (torch.tensor(end),), coefs

    def _check(self, x: Tensor, state: GivenState, record: tuple[str, ...]) -> None:
        if not isinstance(x, Tensor):
            raise no_tensor(type(self).__name__, x)
        if not record and not state and x.dim() >= 2 and x.is_floating_point():
            return
        name = type(self).__name__
        if x.dim() < 2:
            raise ValueError(f"{name} got an input of shape {list(x.shape)}: expected [T, B, ...]")
        if not x.is_floating_point():
            raise TypeError(f"{name} got an input of {x.dtype}: expected floats, use x.float()")
        known = (*self.states, *self.observed)
        for entry in record:
            if entry not in known:
                raise ValueError(f"{name} has no {entry!r} to record: it has {', '.join(known)}")
        shape = x.shape[1:]
        expected = [shape] * len(self.states) + [()] * bool(self.time_coefs)
        if state and [s.shape for s in state] != expected:
            clock = ", and the number of steps passed" if self.time_coefs else ""
            raise ValueError(
                f"{name} got a state of shapes {[list(s.shape) for s in state]}: expected one "
                f"tensor of shape {list(x.shape[1:])} for each of {', '.join(self.states)}{clock}"
            )

    def choice(self, device: torch.device, dtype: torch.dtype) -> Choice:
        """Which backend runs this neuron for an input on `device` of `dtype`, and why."""
        return self._choose(device, dtype, tuple(self._all_coefs()))

    def source(
        self, backend: Literal["cpu", "gpu"] = "cpu", dtype: torch.dtype = torch.float32
    ) -> str:
        """The kernel that runs an input `[T, B, ...]` of `dtype` with coefs per layer: forward,
        then backward.
        """
        return kernel_source(self._recorded(tuple(self._all_coefs())), backend, dtype)

    def _choose(self, device: torch.device, dtype: torch.dtype, coefs: tuple[str, ...]) -> Choice:
        return choose(self, self._recorded, self.backend, device, dtype, coefs)

    def _program(
        self, device: str, dtype: torch.dtype, coefs: tuple[str, ...], compiled: "Neuron | None"
    ) -> str:
        """The compiled program for such an input; empty where the step runs eagerly. `compiled`:
        this neuron, where `torch.compile` writes the name into a graph."""
        program = self._choose(torch.device(device), dtype, coefs).program or ""
        return name_in_graph(program, compiled) if program and compiled is not None else program

    # torch.compile runs this method while it traces and keeps its answer: choosing a backend is not
    # for its graph. (What torch.compiler.assume_constant_result sets, without the second that
    # importing it takes.)
    _program._dynamo_marked_constant = True  # type: ignore[attr-defined]

    def _all_coefs(self) -> dict[str, Tensor]:
        """The coefs of the neuron and the learnable constants of its surrogate."""
        coefs = self.coefs()
        learned = self._modules["surrogate"].coefs()  # type: ignore[union-attr,operator]
        if not learned:
            return coefs
        return coefs | {f"surrogate.{name}": value for name, value in learned.items()}

    def _step(self) -> Step:
        """The step as a pure function of tensors."""
        return _step_of(self, tuple(self._all_coefs()))

    def _recorded(self, coefs: tuple[str, ...]) -> tuple[Step, Recording]:
        """The step on a copy of the neuron that notes what is read of it."""
        recording = Recording(self)
        return _step_of(recording.subject, coefs, recording), recording

    def extra_repr(self) -> str:
        plain = (bool, int, float, str, torch.dtype, type(None))
        return ", ".join(
            f"{name}={value!r}"
            for name, value in self.__dict__.items()
            if name[0] != "_" and name not in ("training", "backend") and isinstance(value, plain)
        )


def _step_of(neuron: Neuron, coefs: tuple[str, ...], recording: Recording | None = None) -> Step:
    """The step of `neuron`, or of a copy of it, with coefs of these names."""
    surrogate, count = neuron.surrogate, len(neuron.states)
    prefix = "surrogate."
    names = [name for name in coefs if not name.startswith(prefix)]
    learned = [name.removeprefix(prefix) for name in coefs[len(names) :]]

    def function(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        states, constants = values[:count], values[count:]
        with bound(surrogate, dict(zip(learned, constants[len(names) :], strict=True))):
            return neuron.step(x, *states, **dict(zip(names, constants[: len(names)], strict=True)))

    signature = Signature(
        states=neuron.states,
        coefs=coefs,
        observed=neuron.observed,
        time_coefs=neuron.time_coefs,
        name=type(neuron).__name__,
    )
    return Step(signature, function, recording, __file__)
