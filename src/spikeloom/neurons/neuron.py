"""The base class of every neuron: one time step in PyTorch, applied over `[T, B, ...]`.

    s_t, v_t = step(x_t, v_{t-1})        t = 1..T, starting from `rest()`

The step is traced and runs as one fused kernel; `backend="eager"` runs it as written.
"""

from typing import Any, NamedTuple, overload

import torch
from torch import Tensor, nn

from spikeloom.compiler.dispatch import Backend, run_steps
from spikeloom.compiler.eager import compute_dtype
from spikeloom.compiler.step import Step
from spikeloom.neurons.surrogate import ATan, Surrogate, bound

State = tuple[Tensor, ...]


class Run(NamedTuple):
    """Spikes `[T, B, ...]`; the state after the last step, one tensor `[B, ...]` per name in `states`; the
    requested records `[T, B, ...]` by name."""

    spikes: Tensor
    state: State
    records: dict[str, Tensor]


class Neuron(nn.Module):
    """A layer of spiking neurons on `[T, B, ...]`, time first.

    A subclass says which states it carries and overrides `step`; `coefs` returns its learnable constants:

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

    A coef is one value, or `[C]` (per channel: axis 2 of the input), or in the shape of one sample `[C, ...]`
    (per neuron); a name in `time_coefs` has a leading time axis `[T]`, `[T, C]`, ... Numbers that do not learn
    are plain Python attributes of the neuron.

    `surrogate`: the surrogate gradient, `ATan(alpha=2.0)` by default.
    `backend`: "auto" compiles where it can, "eager" runs the step in PyTorch, "cpu" insists on the CPU kernel.
    """

    time_first = True
    states: tuple[str, ...] = ("v",)
    observed: tuple[str, ...] = ()
    time_coefs: tuple[str, ...] = ()

    def __init__(self, *, surrogate: Surrogate | None = None, backend: Backend = "auto") -> None:
        super().__init__()
        self.surrogate = ATan() if surrogate is None else surrogate
        self.backend: Backend = backend

    def coefs(self) -> dict[str, Tensor]:
        """The constants that `step` receives as keyword arguments; autograd reaches the parameters behind them."""
        return {}

    def rest(self) -> dict[str, float]:
        """The value of each state before the first step; 0 for a state that is not named."""
        return {}

    def step(self, x: Tensor, *states: Tensor, **coefs: Tensor) -> tuple[Tensor, ...]:
        """One time step: `(spikes, *new_states, *observed)`, elementwise, each in the shape of `x`."""
        raise TypeError(f"{type(self).__name__} must override step(x, {', '.join(self.states)})")

    def constants(self) -> dict[str, Tensor]:
        """The constants as people name them (`tau`, ...), detached; for logs and reports."""
        return {name: value.detach() for name, value in self.coefs().items()}

    def initial_state(self, x: Tensor) -> State:
        """The state at rest for an input `[T, B, ...]`: one tensor `[B, ...]` per name in `states`."""
        rest = self.rest()
        shape, dtype = x.shape[1:], compute_dtype(x)
        return tuple(x.new_full(shape, rest.get(name, 0.0), dtype=dtype) for name in self.states)

    @overload
    def forward(self, x: Tensor) -> Tensor: ...
    @overload
    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]: ...
    def forward(self, x: Tensor, state: State | None = None) -> Tensor | tuple[Tensor, State]:
        """Spikes `[T, B, ...]` (0 or 1, in the dtype of `x`) for the input current `x` `[T, B, ...]`.

        Without `state` every sample starts at rest. With it (`initial_state(x)`, or what an earlier call
        returned) the pair `(spikes, state)` comes back, and gradients flow through both.
        """
        run = self._run(x, state, (), want_state=state is not None)
        return run.spikes if state is None else (run.spikes, run.state)

    def run(self, x: Tensor, state: State | None = None, record: tuple[str, ...] = ()) -> Run:
        """As `forward`, and the sequence `[T, B, ...]` of every state or observed value named in `record`.

        Records are for looking at: no gradient flows through them.
        """
        return self._run(x, state, tuple(record), want_state=True)

    def _run(
        self, x: Tensor, state: State | None, record: tuple[str, ...], want_state: bool
    ) -> Run:
        step, coefs = self._step()
        if x.dim() < 2:
            raise ValueError(
                f"{type(self).__name__} got an input of shape {list(x.shape)}: expected [T, B, ...]"
            )
        if not x.is_floating_point():
            raise TypeError(
                f"{type(self).__name__} got an input of {x.dtype}: expected floating point, use x.float()"
            )
        unknown = [name for name in record if name not in (*self.states, *self.observed)]
        if unknown:
            known = ", ".join((*self.states, *self.observed))
            raise ValueError(
                f"{type(self).__name__} has no {unknown[0]!r} to record: it has {known}"
            )
        if state is not None and len(state) != len(self.states):
            raise ValueError(
                f"{type(self).__name__} got a state of {len(state)} tensors: expected {len(self.states)}, "
                f"for {', '.join(self.states)}"
            )
        rest = self.rest()
        spikes, final, records = run_steps(
            step,
            x,
            state,
            list(coefs.values()),
            rest=tuple(rest.get(name, 0.0) for name in self.states),
            backend=self.backend,
            record=record,
            want_state=want_state,
        )
        return Run(spikes, tuple(final), records)

    def _step(self) -> tuple[Step, dict[str, Tensor]]:
        """The step as a pure function of tensors, with the surrogate's learnable constants among its coefs."""
        coefs = self.coefs()
        own = tuple(coefs)
        learned = self.surrogate.coefs()
        coefs = coefs | {f"surrogate.{name}": value for name, value in learned.items()}
        count = len(self.states)

        def function(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
            states, constants = values[:count], values[count:]
            with bound(self.surrogate, dict(zip(learned, constants[len(own) :], strict=True))):
                return self.step(x, *states, **dict(zip(own, constants[: len(own)], strict=True)))

        return (
            Step(
                function,
                states=self.states,
                coefs=tuple(coefs),
                observed=self.observed,
                time_coefs=self.time_coefs,
                name=type(self).__name__,
                key=(type(self), *_plain(self), type(self.surrogate), *_plain(self.surrogate)),
            ),
            coefs,
        )

    def extra_repr(self) -> str:
        values = {
            name: value for name, value in _plain(self) if name not in ("training", "backend")
        }
        return ", ".join(f"{name}={value!r}" for name, value in values.items())


def _plain(module: nn.Module) -> list[tuple[str, Any]]:
    """The attributes that a step may close over without being asked: numbers, flags, names."""
    return [
        (name, value)
        for name, value in module.__dict__.items()
        if isinstance(value, (bool, int, float, str, torch.dtype, type(None)))
        and not name.startswith("_")
    ]
