"""Networks to NIR, the Neuromorphic Intermediate Representation, and back.

NIR's neurons are equations in continuous time, with a hard reset and a strict threshold:

    LIF      tau dv/dt = (v_leak - v) + r I         v > v_threshold: a spike, v := v_reset
    IF       dv/dt = r I          LI: LIF without spikes
    CubaLIF  tau_syn dI/dt = -I + w_in S,  tau_mem dv/dt = (v_leak - v) + r I

A time step of ours is a forward Euler step of length dt (tau = dt / k for v += k (...)); `dt` is
given, for NIR does not say it. A threshold that fires at >= becomes the next smaller float32.
CuLIF's input acts one step later than in the simulators, which add it first: a Delay of dt stands
before it; two do with `delay=2`, whose threshold sees what the step before charged. What has no
exact form is refused by name.
"""

import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeloom.errors import ExportError
from spikeloom.exchange.continuous import EulerLIF
from spikeloom.exchange.nir_layers import Scale
from spikeloom.exchange.packages import needed
from spikeloom.exchange.wiring import Shape, Wire, wiring
from spikeloom.neurons import Neuron
from spikeloom.nn import BatchNorm, Classifier, Delay, Dropout, Readout, Recurrent

DT = 1e-3
_NORMS = (BatchNorm, nn.BatchNorm1d, nn.BatchNorm2d)
_ABSENT = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, Dropout, Readout)


def to_nir(net: nn.Module, input_shape: Shape, *, dt: float = DT, allow_lossy: bool = False) -> Any:
    """A network as an `nir.NIRGraph`; `nir.write(path, graph)` saves it.

    Args:
        net: Layers that read each other's outputs, or sums of two (residual branches), with
            `Recurrent` layers among them; or a `Classifier` that is one (its readout has no form in
            NIR, and stays behind).
        input_shape: Of one sample at one time step, without time and batch.
        dt: Seconds of a time step.
        allow_lossy: Convert what has no exact form as nearly as NIR can, and warn of each loss.

    Raises:
        ExportError: a layer has no exact form; the text says which, and why.
    """
    if isinstance(input_shape, Tensor):  # what snnTorch's export takes
        raise ExportError(
            f"input_shape is a tensor of shape {list(input_shape.shape)}: give the shape of one "
            "sample at one time step, as (1, 28, 28)"
        )
    graph, lost = graph_of(net, _example(net, tuple(input_shape)), dt, allow_lossy)
    for text in lost:
        warnings.warn(f"to_nir: {text}", stacklevel=2)
    return graph


def _example(net: nn.Module, shape: Shape) -> Tensor:
    image = torch.zeros(1, *shape)
    if not isinstance(net, Classifier):
        return torch.zeros(2, 1, *shape)
    try:
        net.current(image)
    except Exception:  # of events: frames of T steps
        return image.expand(int(net.network.T), *image.shape)  # type: ignore[union-attr, arg-type]
    return image


class _Writer:
    """The nodes and edges of a graph while its layers are walked."""

    def __init__(self, dt: float, allow_lossy: bool) -> None:
        self.dt, self.allow_lossy = dt, allow_lossy
        self.nir = needed("nir")
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.lost: list[str] = []
        self.last: tuple[str, ...] = ()
        self._sources: dict[Wire, tuple[str, ...]] = {}

    def add(self, name: str, node: Any) -> str:
        """A node that reads the nodes `last`, of which it is the last now."""
        while name in self.nodes:
            name += "_"
        self.nodes[name] = node
        self.edges += [(source, name) for source in self.last]
        self.last = (name,)
        return name

    def read(self, wire: Wire) -> None:
        """Makes the nodes `last` that a wire comes from. Edges that meet are added in NIR; a sum of
        sums, or of one output with itself, goes through a Scale by 1, so that it stays what it is.
        """
        if wire not in self._sources:
            sources: list[str] = []
            for part in wire.parts:
                self.read(part)
                if len(self.last) > 1 or {*self.last} & {*sources}:
                    self.add("sum", self.nir.Scale(np.ones(part.shape, np.float32)))
                sources += self.last
            self._sources[wire] = tuple(sources)
        self.last = self._sources[wire]

    def gives(self, wire: Wire) -> None:
        self._sources[wire] = self.last

    def refuse(self, path: str, why: str, instead: str) -> None:
        """Stop, or go on with what is done instead, and say so."""
        if not self.allow_lossy:
            raise ExportError(f"{path}: {why}, which NIR cannot express (allow_lossy: {instead})")
        self.lost.append(f"{path}: {why}; {instead}")


def graph_of(
    net: nn.Module, example: Tensor, dt: float, allow_lossy: bool
) -> tuple[Any, list[str]]:
    """The graph of a network that takes `example`, and what was lost."""
    if not dt > 0:
        raise ExportError(f"dt={dt}: expected the seconds of a time step, above 0")
    writer = _Writer(dt, allow_lossy)
    calls, first, last = wiring(net, example, lambda layer: isinstance(layer, _ABSENT))
    writer.add("input", writer.nir.Input(input_type={"input": np.array(first.shape)}))
    writer.gives(first)
    for call in calls:
        writer.read(call.reads)
        path = call.path.replace(".", "_") or "layer"
        _layer(writer, path, call.layer, call.reads.shape, call.gives.shape)
        writer.gives(call.gives)
    writer.read(last)
    writer.add("output", writer.nir.Output(output_type={"output": np.array(last.shape)}))
    return writer.nir.NIRGraph(writer.nodes, writer.edges, type_check=False), writer.lost


def _layer(to: _Writer, path: str, layer: nn.Module, before: Shape, after: Shape) -> None:
    nir = to.nir
    if isinstance(layer, Recurrent):
        _recurrent(to, path, layer, after)
    elif isinstance(layer, Neuron):
        _neuron(to, path, layer, after)
    elif isinstance(layer, nn.Linear):
        if len(before) != 1:
            raise ExportError(f"{path}: a linear layer on {list(before)}: NIR's takes one axis")
        weight = array_of(layer.weight)
        bias = layer.bias
        to.add(path, nir.Linear(weight) if bias is None else nir.Affine(weight, array_of(bias)))
    elif isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        if layer.padding_mode != "zeros":
            raise ExportError(f"{path}: padding_mode={layer.padding_mode!r}: NIR pads with zeros")
        bias = torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias
        flat = isinstance(layer, nn.Conv1d)
        geometry = [
            value[0] if flat and isinstance(value, tuple) else value
            for value in (layer.stride, layer.padding, layer.dilation)
        ]
        kind = nir.Conv1d if flat else nir.Conv2d
        size = before[1] if flat else before[1:]
        to.add(path, kind(size, array_of(layer.weight), *geometry, layer.groups, array_of(bias)))
    elif isinstance(layer, _NORMS):
        _fold(to, path, layer)
    elif isinstance(layer, (nn.AvgPool2d, nn.MaxPool2d)):
        divisor = getattr(layer, "divisor_override", None)
        if layer.ceil_mode or divisor not in (None, 1):
            raise ExportError(f"{path}: ceil_mode and divisor_override have no form in NIR")
        if isinstance(layer, nn.MaxPool2d):
            to.refuse(path, "MaxPool2d takes a maximum", "averages are taken")
        kind = nir.AvgPool2d if divisor is None else nir.SumPool2d
        values = (layer.kernel_size, layer.stride, layer.padding)
        to.add(path, kind(*(np.array([v, v] if isinstance(v, int) else v) for v in values)))
    elif isinstance(layer, nn.Flatten):
        if layer.start_dim != 1 or layer.end_dim != -1:
            raise ExportError(f"{path}: Flatten of some axes only: flatten all of a sample")
        to.add(path, nir.Flatten({"input": np.array(before)}, 0, -1))
    elif isinstance(layer, Scale):
        to.add(path, nir.Scale(array_of(layer.scale)))
    elif isinstance(layer, Delay):
        steps = layer.delays().float()
        to.add(path, nir.Delay(array_of(full(steps, before) * to.dt)))
    else:
        raise ExportError(f"{path}: {type(layer).__name__} has no form in NIR")


def _fold(to: _Writer, path: str, norm: Any) -> None:
    """y = gamma (x - mean) / sqrt(var + eps) + beta into the layer before."""
    nir, name = to.nir, to.last[0]
    node, others = to.nodes[name], [end for start, end in to.edges if start == name]
    if len(to.last) > 1 or not isinstance(node, (nir.Linear, nir.Affine, nir.Conv1d, nir.Conv2d)):
        raise ExportError(
            f"{path}: BatchNorm is folded into a linear layer or convolution before "
            "it, and there is none"
        )
    if others:
        raise ExportError(
            f"{path}: BatchNorm is folded into {name}, which {others[0]} reads without it"
        )
    gain = norm.weight.double() * getattr(norm, "scale", 1.0)
    scale = (gain / torch.sqrt(norm.running_var.double() + norm.eps)).detach()
    bias = torch.as_tensor(np.asarray(getattr(node, "bias", 0.0))).double()
    shift = (norm.bias.double() + (bias - norm.running_mean.double()) * scale).detach()
    weight = torch.as_tensor(node.weight).double()
    folded = array_of(weight * scale.view(-1, *[1] * (weight.dim() - 1)))
    if isinstance(node, (nir.Linear, nir.Affine)):
        to.nodes[name] = nir.Affine(folded, array_of(shift))
    else:
        node.weight, node.bias = folded, array_of(shift)


def _recurrent(to: _Writer, path: str, layer: Recurrent, shape: Shape) -> None:
    """A cycle through a linear map. What a current-based neuron's `i` hears is one step ahead of
    its input, and so enters after one of its delays."""
    known = set(to.nodes)
    last = _neuron(to, path, layer.neuron, shape)
    ways = [name for name in to.nodes if name not in known]  # its delays, then the neuron
    if layer.into == "v" or (layer.into != "input" and len(ways) == 1):
        raise ExportError(
            f"{path}: spikes that go into {layer.into!r} have no form in NIR, where all that a "
            "neuron hears is its input: into='input'"
        )
    back = f"{path}_recurrent"
    to.nodes[back] = to.nir.Linear(array_of(layer.recurrent.weight))
    to.edges += [(last, back), (back, ways[layer.into != "input"])]


def _neuron(to: _Writer, path: str, neuron: Any, shape: Shape) -> str:
    kind = type(neuron).__name__
    if getattr(neuron, "v_reset", 0.0) is None:
        to.refuse(path, f"{kind} resets by subtraction", "it is reset to 0")
    form = FORMS.get(kind)
    if form is None:
        raise ExportError(
            f"{path}: {kind} has no form in NIR, which knows IF, LIF, LI and current-based LIF"
        )
    name, values = form(neuron, to.dt, path)
    hint = {"spikeloom": json.dumps(_hint(neuron))}
    hint |= {key: value.detach().numpy()[()] for key, value in neuron.state_dict().items()}
    arrays = {key: array_of(full(torch.as_tensor(v), shape)) for key, v in values.items()}
    for _ in range(neuron.delay if name == "CubaLIF" else 0):
        to.add(f"{path}_delay", to.nir.Delay(np.full(shape, to.dt, np.float32)))
    return to.add(path, getattr(to.nir, name)(**arrays, metadata=hint))


def _hint(neuron: Neuron) -> dict[str, Any]:
    """What rebuilds the neuron as it was; the arrays of the node decide whether it is heard."""
    known = neuron.fixed() if not isinstance(neuron, EulerLIF) else {"kind": ["EulerLIF"]}
    return {**known, "kind": known["kind"][0], "strict": neuron.surrogate.strict}


def _threshold(neuron: Neuron, value: Tensor | float) -> Tensor:
    """Fires at > where ours fires at >=."""
    single = torch.as_tensor(value, dtype=torch.float32).detach()
    below = torch.nextafter(single, torch.tensor(-torch.inf))
    return single if neuron.surrogate.strict else below


def _spiking(neuron: Any) -> dict[str, Any]:
    return {
        "v_threshold": _threshold(neuron, neuron.v_threshold),
        "v_reset": neuron.v_reset or 0.0,
    }


def _lif(neuron: Any, dt: float, path: str) -> tuple[str, dict[str, Any]]:
    tau = neuron.constants()["tau"].double()
    r = torch.ones(()).double() if neuron.decay_input else tau
    if not neuron.fires:
        return "LI", {"tau": tau * dt, "r": r, "v_leak": 0.0}
    values = _spiking(neuron)
    leak = 0.0 if neuron.v_reset is None else values["v_reset"]
    return "LIF", {"tau": tau * dt, "r": r, "v_leak": leak, **values}


def _cuba(neuron: Any, dt: float, path: str) -> tuple[str, dict[str, Any]]:
    taus = {name: value.double() for name, value in neuron.constants().items()}
    member, synapse = (dt / (1 - torch.exp(-1 / taus[name])) for name in ("tau_m", "tau_s"))
    values = _spiking(neuron)
    given = {"tau_mem": member, "tau_syn": synapse, "r": 1.0, "w_in": synapse / dt}
    return "CubaLIF", {**given, "v_leak": values["v_reset"], **values}


def _glif(neuron: Any, dt: float, path: str) -> tuple[str, dict[str, Any]]:
    c = {name: value.double().detach() for name, value in neuron.coefs().items()}
    hard = c.get("hard", torch.zeros(()))
    if neuron.time_coefs or (c["drop"] != 0).any() or (hard != 1).any() or (c["soft"] != 0).any():
        raise ExportError(
            f"{path}: {type(neuron).__name__} has no form in NIR but with an exponential leak and "
            "a hard reset alone (gates A = 1, G = 1) and one conductance for all steps"
        )
    k = 1 - c["decay"]
    threshold = _threshold(neuron, c["threshold"].float())
    values = {"v_leak": 0.0, "v_reset": 0.0, "v_threshold": threshold}
    return "LIF", {"tau": dt / k, "r": c["gain"] / k, **values}


FORMS: dict[str, Callable[[Any, float, str], tuple[str, dict[str, Any]]]] = {
    "IF": lambda neuron, dt, path: ("IF", {"r": 1 / dt, **_spiking(neuron)}),
    **{"LIF": _lif, "PLIF": _lif, "LI": _lif, "CuLIF": _cuba, "PCuLIF": _cuba},
    **{"GLIF": _glif, "FusedGLIF": _glif},
    "EulerLIF": lambda neuron, dt, path: ("LIF", neuron.arrays(dt)),
}


def full(value: Tensor, shape: Shape) -> Tensor:
    """A constant of a layer, of channels, or of neurons, in the shape of a sample."""
    if 0 < value.dim() < len(shape):
        value = value.view(-1, *[1] * (len(shape) - 1))
    return value.expand(shape)


def array_of(value: Tensor) -> np.ndarray:
    return value.detach().to(torch.float32).contiguous().numpy().copy()
