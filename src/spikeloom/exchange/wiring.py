"""How the layers of a network are wired: which outputs, or sums of them, each layer reads."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from spikeloom.errors import ExportError
from spikeloom.hooks import hooked
from spikeloom.neurons import Neuron
from spikeloom.nn import Classifier, Recurrent
from spikeloom.nn.fold import is_time_aware
from spikeloom.nn.state import trial

Shape = tuple[int, ...]

_SAME = frozenset(
    (
        *("flatten", "unflatten", "view", "reshape", "expand", "squeeze", "unsqueeze", "clone"),
        *("contiguous", "detach", "to", "float"),
    )
)
"""What keeps the values of a sample in their order; a changed shape is seen at the next layer."""
_ONE_STEP = frozenset(("__getitem__", "select", "narrow"))
"""What may take a step of an image that is shown at all steps, and nothing else."""
_SUMS = frozenset(("add", "add_", "__add__", "__radd__", "__iadd__"))


@dataclass(eq=False)
class Wire:
    """Values between layers: a layer's output, a sum of two (`parts`), or of another `origin`."""

    shape: Shape
    parts: tuple["Wire", ...] = ()
    origin: str = ""


@dataclass(frozen=True)
class LayerCall:
    """A layer that ran: `reads` in the shape of a sample without time, `gives` likewise."""

    path: str
    layer: nn.Module
    reads: Wire
    gives: Wire


def wiring(
    net: nn.Module, example: Tensor, absent: Callable[[nn.Module], bool]
) -> tuple[list[LayerCall], Wire, Wire]:
    """The layers in the order in which they run, the input, and the answer of the last.

    `absent`: says of a layer whether it hands on what it got. Raises `ExportError` for a layer that
    reads anything but other layers' outputs and sums of two of them.
    """
    trace, layers = _Trace(absent), {layer: path for path, layer in _leaves(net)}
    calls = {layer: partial(trace.called, path) for layer, path in layers.items()}
    with hooked(dict.fromkeys(layers, trace.entered), calls), trial(net), trace:
        first = trace.keep(example, Wire(()))
        if isinstance(net, Classifier):
            x = net.current(example)
            if trace.wire(x) is not first:
                first = trace.keep(x, Wire(()))
            answer = net.course(x)[0]
        else:
            answer = net(example)
    if not trace.calls:
        raise ExportError(f"{type(net).__name__} has no layers that could go to NIR")
    last = trace.wire(answer)
    if last is None or last.origin:
        raise ExportError(_unwired("the network's answer", last))
    return trace.calls, first, last


class _Trace(TorchFunctionMode):
    """Follows tensors from layer to layer; what happens inside a layer is its own."""

    def __init__(self, absent: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self.calls: list[LayerCall] = []
        self._absent = absent
        self._wires: dict[int, tuple[Tensor, Wire]] = {}
        self._inside = 0

    def wire(self, x: Tensor) -> Wire | None:
        return self._wires.get(id(x), (x, None))[1]

    def keep(self, x: Tensor, wire: Wire) -> Wire:
        self._wires[id(x)] = (x, wire)  # the tensor too: its id is its own while it lives
        return wire

    def entered(self, *_: Any) -> None:
        self._inside += 1

    def called(self, path: str, layer: nn.Module, inputs: tuple[Tensor, ...], answer: Any) -> None:
        self._inside -= 1
        x, y = inputs[0], answer if isinstance(answer, Tensor) else answer[0]
        axes = 2 if is_time_aware(layer) else 1
        before, wire, name = tuple(x.shape[axes:]), self.wire(x), path or type(layer).__name__
        if wire is None or wire.origin:
            raise ExportError(_unwired(f"{name}: its input", wire))
        if self._absent(layer):
            self.keep(y, wire)
            return
        if not wire.shape:  # the input, whose axes are known now
            wire.shape = before
        if wire.shape != before:
            raise ExportError(
                f"{name}: its input {list(before)} was {list(wire.shape)} as the layer before "
                "gave it: reshape with nn.Flatten"
            )
        gives = self.keep(y, Wire(tuple(y.shape[axes:])))
        self.calls.append(LayerCall(path, layer, wire, gives))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        if not self._inside:
            tensors = list(_tensors((*args, *(kwargs or {}).values())))
            wires = [wire for wire in map(self.wire, tensors) if wire is not None]
            for y in _tensors((answer,)) if wires else ():
                self.keep(y, _followed(func.__name__, tensors, wires, args, y))
        return answer


def _followed(
    name: str, tensors: list[Tensor], wires: list[Wire], args: tuple[Any, ...], y: Tensor
) -> Wire:
    for wire in wires:
        if wire.origin:
            return wire
    if len(tensors) == 1 and (name in _SAME or (name in _ONE_STEP and _steps_of(tensors[0], y))):
        return wires[0]
    alike = len(wires) == len(tensors) == len(args) == 2 and tensors[0].shape == tensors[1].shape
    if name in _SUMS and alike and y.shape == tensors[0].shape:
        return Wire(wires[0].shape or wires[1].shape, tuple(wires))
    return Wire((), origin=name.strip("_"))


def _steps_of(x: Tensor, y: Tensor) -> bool:
    """Whether `x` is an image that is shown at all steps, and `y` that image, or some steps."""
    shows = x.dim() > 0 and x.stride(0) == 0 and x.data_ptr() == y.data_ptr()
    return shows and y.shape[y.dim() - x.dim() + 1 :] == x.shape[1:]


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


def _unwired(subject: str, wire: Wire | None) -> str:
    how = f"comes from {wire.origin!r} between layers" if wire else "comes from no layer before it"
    return f"{subject} {how}: only outputs of layers and sums of two go to NIR"


def _leaves(net: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers that are one for NIR: neurons, recurrent layers, and what has no layers inside."""
    if isinstance(net, (Neuron, Recurrent)) or not any(True for _ in net.children()):
        yield path, net
        return
    for name, child in net.named_children():
        yield from _leaves(child, f"{path}.{name}" if path else name)
