"""A network as a pure function of one time step, which is what other runtimes take:

    course_t, state_t = step(x_t, state_{t-1})

`course` is what the last layer answers at a step; what makes scores of it, `read`, sees all steps.
"""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spikeloom.errors import ExportError, SpikeloomError
from spikeloom.nn.classifier import Classifier
from spikeloom.nn.layers import Readout
from spikeloom.nn.recurrent import Recurrent
from spikeloom.nn.sequential import Sequential
from spikeloom.nn.state import initial_state, stream

ReadoutName = Literal["sum", "mean", "max", "last", "first spike"]


class StepForm:
    """A copy of a network in evaluation mode, taken apart into step and readout.

    `example`: an input of the network, of which only shape and dtype count: `[T, B, ...]`, or
    images `[B, ...]` of a `Classifier` that shows them at each of its T steps. A chain that ends
    in a `Readout` is read by that. Raises `ExportError` for a network that has no steps.
    """

    def __init__(self, net: nn.Module, example: Tensor) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        body, self._read, self.names = _split(self.net)
        self.readout: ReadoutName | None = None
        if self._read is not None:
            by = "read_by" if isinstance(self._read, Classifier) else "over"
            self.readout = getattr(self._read, by)
        self.static = False
        self.time_steps = len(example)
        if isinstance(body, Classifier):
            if not self.names:
                raise ExportError(
                    f"{type(body).__name__} has no time steps that stand by themselves: export the "
                    'whole network, form="unrolled", to onnx or torch'
                )
            current = body.current(example)
            self.static = current.dim() > example.dim()
            self.time_steps = len(current)
        self.has_scores = self._read is not None
        self.course = _Course(body, self.static)
        self.frame = example[:1] if self.static else example[0, :1]
        """One sample's input of one step, `[1, ...]`."""
        frame = self.frame.unsqueeze(0)
        self.rest, self._form = _flat(initial_state(self.course, frame))
        self.states = tuple(_named(self.course, self._form))
        more, _ = _flat(initial_state(self.course, frame.repeat_interleave(2, 1)))
        self.batch_axes = tuple(
            next((i for i, (a, b) in enumerate(zip(s.shape, w.shape, strict=True)) if a != b), None)
            for s, w in zip(self.rest, more, strict=True)
        )
        """Which axis of each state counts samples; None of one that all samples share."""
        with torch.no_grad():
            answer = self.step(self.frame, *self.rest)[: len(self.names)]
        self.course_shapes = [tuple(course.shape[1:]) for course in answer]

    def at_rest(self, batch: int) -> list[Tensor]:
        """The states before the first step, for a batch."""
        return [
            rest if axis is None else rest.repeat_interleave(batch, axis)
            for rest, axis in zip(self.rest, self.batch_axes, strict=True)
        ]

    def step(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """The course of one step `[B, ...]`, then the states after it, for `x` `[B, ...]`."""
        given = _unflat(iter(states), self._form)
        answer, after = stream(self.course, x.unsqueeze(0), given)
        values, form = _flat(after)
        if form != self._form:
            raise ExportError(
                f"the state of this network changes its form from {self._form} to {form} in a "
                "step: a step of other runtimes has as many states before it as after it"
            )
        return (*(course[0] for course in answer), *values)

    def read(self, *course: Tensor) -> Tensor:
        """The scores of a whole course `[T, B, ...]`; without a readout, the course."""
        return course[0] if self._read is None else _scores(self._read, course)

    def step_program(self, *, batch: int | None = None) -> torch.export.ExportedProgram:
        """`step` as a graph of PyTorch's operators, for any batch or for a fixed one."""
        size = batch or 2
        x = self.frame.repeat_interleave(size, 0)
        shapes: list[dict[int, Any]] | None = None
        if batch is None:
            dim = torch.export.Dim("batch", min=1)
            by_state = [{} if axis is None else {axis: dim} for axis in self.batch_axes]
            shapes = [{0: dim}, *by_state]
        return exported(Call(self.course, self.step), [x, *self.at_rest(size)], shapes)


class _Course(nn.Module):
    """What a network answers at each step, as a tuple, to a piece of its input; where it shows
    images, these are the piece."""

    def __init__(self, net: nn.Module, static: bool) -> None:
        super().__init__()
        self.net = net
        self.static = static

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        if not isinstance(self.net, Classifier):
            return (self.net(x),)
        current = self.net.current(x[0])[:1] if self.static else self.net.current(x)
        return self.net.course(current)


class Call(nn.Module):
    """A function of tensors with the module whose weights it uses."""

    def __init__(self, module: nn.Module, function: Any) -> None:
        super().__init__()
        self.module = module
        self.function = function

    def forward(self, x: Tensor, *others: Tensor) -> Any:
        return self.function(x, *others)


class Whole(nn.Module):
    """A network over all its steps: its scores, where it has a readout, then its course."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.body, self.reader, self.course_names = _split(self.net)
        self.names = (*["scores"] * (self.reader is not None), *self.course_names)

    def batch_axis(self, example: Tensor) -> int:
        """Which axis of an input counts samples: 0 of images that are shown at all steps."""
        if not isinstance(self.net, Classifier):
            return 1
        try:
            with torch.no_grad():
                scores = self.net(torch.cat([example, example])).scores
        except (ValueError, SpikeloomError):  # twice as many time steps
            return 1
        return 0 if len(scores) == 2 * len(example) else 1

    def program(self, example: Tensor) -> torch.export.ExportedProgram:
        """All steps as a graph of PyTorch's operators, for any batch."""
        axis = self.batch_axis(example)
        pair = example.narrow(axis, 0, 1).repeat_interleave(2, axis)
        return exported(self, [pair], [{axis: torch.export.Dim("batch", min=1)}])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        body = self.body
        if isinstance(body, Classifier):
            if not self.course_names:
                return (body(x).scores,)
            course = body.course(body.current(x))
        else:
            course = (body(x),)
        return course if self.reader is None else (_scores(self.reader, course), *course)


def _split(net: nn.Module) -> tuple[nn.Module, nn.Module | None, tuple[str, ...]]:
    """What answers step by step, what reads it, and the names of what it answers (none: it has no
    steps)."""
    if isinstance(net, Classifier):
        return net, net, () if type(net).course is Classifier.course else net.course_names
    if isinstance(net, Sequential) and len(net) and isinstance(net[-1], Readout):
        return net[:-1], net[-1], ("output",)
    return net, None, ("output",)


def _scores(reader: nn.Module, course: tuple[Tensor, ...]) -> Tensor:
    return reader.read(*course).scores if isinstance(reader, Classifier) else reader(course[0])


def exported(
    module: nn.Module, arguments: Sequence[Tensor], shapes: Sequence[dict[int, Any]] | None = None
) -> torch.export.ExportedProgram:
    """`torch.export` of a module, neurons as they are written; `ExportError` where it cannot.

    `shapes`: for each argument the axes that are free.
    """
    free: Any = shapes
    if shapes and len(shapes) > 1:  # as torch wants it of `forward(x, *others)`
        free = (shapes[0], tuple(shapes[1:]))
    with torch.no_grad(), quiet():
        try:
            return torch.export.export(
                module,
                tuple(arguments),
                dynamic_shapes=free,
                strict=False,
                # Guards such as 128 B == B min(128, 128 B) hold, and torch cannot see it.
                prefer_deferred_runtime_asserts_over_guards=True,
            )
        except ExportError:
            raise
        except Exception as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else ""
            raise ExportError(
                f"torch.export cannot write this network down: {type(error).__name__}: {first}"
            ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of exporters about themselves."""
    with warnings.catch_warnings():
        for kind in (FutureWarning, DeprecationWarning, UserWarning):
            warnings.simplefilter("ignore", kind)
        yield


def _flat(state: Any, path: str = "") -> tuple[list[Tensor], tuple[str, ...]]:
    """The tensors of a state in a fixed order, and their paths: "hidden/neuron1/0"."""
    if isinstance(state, Tensor):
        return [state], (path,)
    items = state.items() if isinstance(state, dict) else enumerate(state or ())
    parts = [_flat(value, f"{path}/{name}") for name, value in items]
    return [t for part, _ in parts for t in part], tuple(p for _, form in parts for p in form)


def _unflat(values: Iterator[Tensor], paths: tuple[str, ...]) -> Any:
    """The state that `_flat` took apart: a dict of dicts, at the end of which stand tuples."""
    state: dict[str, Any] = {}
    for path in paths:
        *outer, last, _ = path.split("/")[1:]
        place = state
        for name in outer:
            place = place.setdefault(name, {})
        place[last] = (*place.get(last, ()), next(values))
    return state


def _named(course: nn.Module, paths: tuple[str, ...]) -> Iterator[str]:
    """States as people name them: "hidden.neuron1.v"."""
    for path in paths:
        *names, index = path.split("/")[1:]
        layer = course.get_submodule(".".join(name.partition("#")[0] for name in names))
        carried = getattr(layer, "states", None)
        states = ("past",) if carried is None else (*carried, "clock")  # none: a layer of delays
        if isinstance(layer, Recurrent):
            states = (*layer.neuron.states, "spikes")
        known = int(index) < len(states)
        name = ".".join(names).removeprefix("net.")
        yield f"{name}.{states[int(index)] if known else index}"
