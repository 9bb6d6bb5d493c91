"""Networks from NIR graphs: those that `to_nir` wrote as they were, others by Euler steps."""

import io
import json
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from spikeloom import neurons
from spikeloom.errors import ExportError
from spikeloom.exchange.continuous import of_arrays
from spikeloom.exchange.nir import DT, FORMS, array_of, full
from spikeloom.exchange.nir_layers import Branches, Scale
from spikeloom.exchange.packages import needed
from spikeloom.neurons import Neuron
from spikeloom.nn import Delay, Recurrent, Sequential


def from_nir(source: Any, *, dt: float = DT) -> Sequential:
    """A network `[T, B, ...]` from an `nir.NIRGraph`, or from a file of one.

    `dt`: seconds of a time step. Neurons that `to_nir` wrote come back as they were, with their
    learned constants; of other graphs LIF, IF, LI and CubaLIF become neurons of forward Euler steps
    of dt. Where edges meet, what they carry is added; a linear map from neurons back to themselves
    is a `Recurrent` layer; graphs in graphs are taken apart. Raises `ExportError` for other cycles,
    and for nodes that have no form here.
    """
    if isinstance(source, str | Path):
        try:
            source = nir_graph(Path(source).read_bytes())
        except ExportError as error:
            raise ExportError(f"{source}: {error}") from error
    graph = _Graph(source)
    loops = graph.take_loops()
    layers: dict[str, nn.Module] = {}
    for name in graph.order():
        kind = type(graph.nodes[name]).__name__
        if kind in ("Input", "Output"):
            continue
        delays = graph.delays_before(name, dt) if kind == "CubaLIF" else []
        layer: Any = _module(name, graph.nodes[name], dt, len(delays))
        delays = delays[: layer.delay] if kind == "CubaLIF" else []  # those that are in the layer
        if name in loops:
            linear, end = loops.pop(name)
            ways = [*reversed(delays), name]
            layer = _looped(name, layer, graph.nodes[linear], ways.index(end) if end in ways else 2)
        for delay in delays:
            del layers[delay]
            graph.pass_by(delay)
        layers[name] = layer
    return _network(graph, layers).eval()


class _Graph:
    """Nodes by their names, and edges between them, each once."""

    def __init__(self, source: Any) -> None:
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self._add(source, "")

    def _add(self, source: Any, prefix: str) -> None:
        """What is in a graph in the graph has the names of both; its ports are passed by."""
        ports: dict[tuple[str, str], list[str]] = {}  # by the graph and "Input" or "Output"
        for name, node in source.nodes.items():
            whole = prefix + name
            if not hasattr(node, "nodes"):
                self.nodes[whole] = node
                continue
            self._add(node, f"{whole}.")
            for inside, part in node.nodes.items():
                kind = type(part).__name__
                if kind in ("Input", "Output"):
                    ports.setdefault((whole, kind), []).append(f"{whole}.{inside}")
        for start, end in dict.fromkeys(source.edges):
            starts = ports.get((prefix + start, "Output"), [prefix + start])
            ends = ports.get((prefix + end, "Input"), [prefix + end])
            self.edges += [(a, b) for a in starts for b in ends]
        for names in ports.values():
            for name in names:
                self.pass_by(name)

    def before(self, name: str) -> list[str]:
        return [start for start, end in self.edges if end == name]

    def after(self, name: str) -> list[str]:
        return [end for start, end in self.edges if start == name]

    def pass_by(self, name: str) -> None:
        """Takes a node out, so that those before it lead to those after it."""
        around = [(a, b) for a in self.before(name) for b in self.after(name)]
        self.edges = [edge for edge in self.edges if name not in edge] + around
        del self.nodes[name]

    def take_loops(self) -> dict[str, tuple[str, str]]:
        """Linear maps from neurons back to themselves, or to a delay before them, are no edges any
        more: the map, and where it leads, by the neurons' names."""
        loops: dict[str, tuple[str, str]] = {}
        for name, node in self.nodes.items():
            starts, ends = self.before(name), self.after(name)
            if type(node).__name__ not in ("Linear", "Affine") or len(starts) * len(ends) != 1:
                continue
            at = ends[0]
            while type(self.nodes[at]).__name__ == "Delay" and len(self.after(at)) == 1:
                (at,) = self.after(at)
            if at == starts[0]:
                if at in loops:
                    raise ExportError(f"{at}: two loops, {loops[at][0]} and {name}: no form here")
                loops[at] = (name, ends[0])
        for name, _ in loops.values():
            self.edges = [edge for edge in self.edges if name not in edge]
        return loops

    def delays_before(self, name: str, dt: float) -> list[str]:
        """The delays of one step in a row before a node, the nearest first."""
        delays: list[str] = []
        while len(self.before(name)) == 1:
            (name,) = self.before(name)
            node = self.nodes[name]
            if type(node).__name__ != "Delay" or len(self.after(name)) != 1:
                break
            if not np.allclose(node.delay, dt):
                break
            delays.append(name)
        return delays

    def order(self) -> list[str]:
        """The names of what the input reaches, each after all that it reads."""
        inputs = [n for n, node in self.nodes.items() if type(node).__name__ == "Input"]
        if len(inputs) != 1:
            raise ExportError(f"{len(inputs)} inputs: a network here has one")
        reached, names = set(inputs), list(inputs)
        for name in names:
            names += [n for n in dict.fromkeys(self.after(name)) if n not in reached]
            reached.update(names)
        needs = {name: [n for n in self.before(name) if n in reached] for name in names}
        try:
            return list(TopologicalSorter(needs).static_order())
        except CycleError as error:
            raise ExportError(
                f"{' -> '.join(error.args[1])}: a loop of other than neurons and a linear map back "
                "to them"
            ) from error


def _network(graph: _Graph, layers: dict[str, nn.Module]) -> Sequential:
    """A chain, where it is one."""
    ends = [n for n, node in graph.nodes.items() if type(node).__name__ == "Output"]
    if len(ends) > 1:
        raise ExportError(f"{len(ends)} outputs: a network here has one")
    numbers = {name: number for number, name in enumerate(layers, 1)}
    numbers |= {n: 0 for n, node in graph.nodes.items() if type(node).__name__ == "Input"}

    def read(name: str) -> tuple[int, ...]:
        for start in graph.before(name) or [name]:
            if start not in numbers:
                raise ExportError(f"{name}: nothing leads to {start} from the input")
        return tuple(numbers[start] for start in graph.before(name))

    reads, last = [read(name) for name in layers], read(ends[0]) if ends else (len(layers),)
    if [*reads, last] == [(number,) for number in range(len(layers) + 1)]:
        return Sequential(*layers.values())
    return Sequential(Branches(layers.values(), reads, last))


def nir_graph(content: bytes) -> Any:
    """The graph in a file; `ExportError` if it is none."""
    try:
        return needed("nir").read(io.BytesIO(content))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ExportError(f"is no NIR file ({error})") from error


def _looped(name: str, layer: nn.Module, back: Any, place: int) -> Recurrent:
    """`place`: 0 for a loop that ends where the neuron's input does, 1 for one delay later."""
    if not isinstance(layer, Neuron) or getattr(back, "bias", np.zeros(1)).any():
        raise ExportError(f"{name}: a loop of other than neurons and a linear map without bias")
    if place not in (0, 1):
        raise ExportError(f"{name}: a loop into the midst of its delays has no form here")
    recurrent = Recurrent(layer, len(back.weight), into=("input", "i")[place])
    with torch.no_grad():
        recurrent.recurrent.weight.copy_(torch.from_numpy(np.asarray(back.weight)))
    return recurrent


def _module(name: str, node: Any, dt: float, delays: int) -> nn.Module:
    """The layer of a node; `delays`: how many of one step stand before it."""
    kind = type(node).__name__

    def pair(value: Any) -> Any:
        return value if isinstance(value, str) else tuple(np.atleast_1d(value).tolist())

    layer: Any
    match kind:
        case "Linear" | "Affine":
            layer = nn.Linear(node.weight.shape[1], node.weight.shape[0], bias=kind == "Affine")
        case "Conv1d" | "Conv2d":
            out, inputs, *size = node.weight.shape
            groups = int(node.groups)
            geometry = map(pair, (size, node.stride, node.padding, node.dilation))
            layer = getattr(nn, kind)(inputs * groups, out, *geometry, groups)
        case "AvgPool2d" | "SumPool2d":
            window = map(pair, (node.kernel_size, node.stride, node.padding))
            return nn.AvgPool2d(*window, divisor_override=1 if kind == "SumPool2d" else None)
        case "Flatten":
            return nn.Flatten()
        case "Scale":
            return Scale(torch.from_numpy(np.asarray(node.scale, np.float32)))
        case "Delay":
            return _delay(name, node, dt)
        case _:
            return _remembered(node, dt, delays) or of_arrays(name, node, dt, delays > 0)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.asarray(node.weight)))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(np.asarray(node.bias)))
    return layer


def _delay(name: str, node: Any, dt: float) -> Delay:
    delay = np.asarray(node.delay, dtype=np.float64) / dt
    channels = delay.reshape(len(delay), -1)
    if not np.allclose(channels, channels[:, :1]) or not np.allclose(delay, delay.round()):
        raise ExportError(f"{name}: delays of other than whole steps of {dt} s, one per channel")
    layer = Delay(len(channels), max(int(channels.max().round()), 1))
    with torch.no_grad():
        layer.delay.copy_(torch.from_numpy(channels[:, 0].round()))
    return layer


def _remembered(node: Any, dt: float, delays: int) -> Neuron | None:
    """The neuron that `to_nir` wrote, if the node still holds its constants, and its delays stand
    before it."""
    hint = dict(node.metadata or {})
    text = hint.pop("spikeloom", None)
    if text is None:
        return None
    constants = json.loads(text.decode() if isinstance(text, bytes) else str(text))
    kind, strict = constants.pop("kind"), constants.pop("strict")
    if kind not in FORMS or kind == "EulerLIF":
        return None
    neuron = _build(kind, constants, hint)
    if neuron is None or (type(node).__name__ == "CubaLIF" and neuron.delay > delays):  # type: ignore[operator]
        return None
    neuron.surrogate.strict = strict
    name, values = FORMS[kind](neuron, dt, "")
    shape = np.asarray(node.v_leak if hasattr(node, "v_leak") else node.r).shape
    same = all(
        np.array_equal(np.asarray(getattr(node, key)), array_of(full(torch.as_tensor(v), shape)))
        for key, v in values.items()
    )
    return neuron.eval() if same and type(node).__name__ == name else None


def _build(kind: str, constants: dict[str, Any], tensors: dict[str, Any]) -> Neuron | None:
    """A neuron of these constants and weights; None if they do not make one."""
    starts: dict[str, dict[str, Any]] = {
        "PLIF": {"tau": 2.0},
        "PCuLIF": {"tau_m": 2.0, "tau_s": 2.0},
    }
    arguments = {**constants, **starts.get(kind, {})}
    size = next((np.shape(tensors[key]) for key in ("w", "membrane") if key in tensors), None)
    if size is not None:
        arguments["shape"] = tuple(size)
    if kind in ("GLIF", "FusedGLIF"):
        width = np.asarray(tensors.get("alpha", tensors.get("tau", 0.0)))
        arguments["channels"] = len(width) if width.ndim else None
    try:
        neuron = getattr(neurons, kind)(**arguments)
        neuron.load_state_dict({k: torch.as_tensor(np.asarray(v)) for k, v in tensors.items()})
    except (TypeError, ValueError, RuntimeError, KeyError):
        return None
    return neuron
