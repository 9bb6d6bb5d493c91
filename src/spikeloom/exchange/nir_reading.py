"""Networks from NIR graphs: those that `to_nir` wrote as they were, others by Euler steps."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from spikeloom import neurons
from spikeloom.errors import ExportError
from spikeloom.exchange.continuous import SumPool2d, of_arrays
from spikeloom.exchange.nir import DT, FORMS, array_of, full
from spikeloom.exchange.packages import needed
from spikeloom.neurons import Neuron
from spikeloom.nn import Delay, Recurrent, Sequential


def from_nir(source: Any, *, dt: float = DT) -> Sequential:
    """A network `[T, B, ...]` from an `nir.NIRGraph`, or from a file of one.

    `dt`: seconds of a time step. Neurons that `to_nir` wrote come back as they were, with their
    learned constants; of other graphs LIF, IF, LI and CubaLIF become neurons of forward Euler steps
    of dt. Raises `ExportError` for branches, and for nodes that have no form here.
    """
    nir = needed("nir")
    if isinstance(source, str | Path):
        try:
            source = nir_graph(Path(source).read_bytes())
        except ExportError as error:
            raise ExportError(f"{source}: {error}") from error
    nodes, after = source.nodes, {}
    for start, end in source.edges:
        after.setdefault(start, []).append(end)
    (name,) = [key for key, node in nodes.items() if isinstance(node, nir.Input)] or [None]
    layers: list[nn.Module] = []
    late = False
    while name is not None:
        node = nodes[name]
        ahead, back = [], None
        for follower in after.get(name, []):
            loop = after.get(follower, [])
            closes = isinstance(nodes[follower], (nir.Linear, nir.Affine)) and len(loop) == 1
            if closes and (loop[0] == name or after.get(loop[0]) == [name]):
                back = nodes[follower]
            else:
                ahead.append(follower)
        if len(ahead) > 1:
            raise ExportError(f"{name}: leads to {', '.join(ahead)}: only chains come from NIR")
        following = nodes[ahead[0]] if ahead else None
        if isinstance(node, nir.Delay) and isinstance(following, nir.CubaLIF):
            if not np.allclose(node.delay, dt):
                raise ExportError(
                    f"{name}: a delay before CubaLIF of other than one step of {dt} s"
                )
            late = True
        elif not isinstance(node, (nir.Input, nir.Output)):
            layer = _module(name, node, dt, late)
            late = False
            layers.append(layer if back is None else _looped(name, layer, back))
        name = ahead[0] if ahead else None
    return Sequential(*layers).eval()


def nir_graph(content: bytes) -> Any:
    """The graph in a file; `ExportError` if it is none."""
    try:
        return needed("nir").read(io.BytesIO(content))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ExportError(f"is no NIR file ({error})") from error


def _looped(name: str, layer: nn.Module, back: Any) -> Recurrent:
    if not isinstance(layer, Neuron) or getattr(back, "bias", np.zeros(1)).any():
        raise ExportError(f"{name}: a loop of other than neurons and a linear map without bias")
    recurrent = Recurrent(layer, len(back.weight))
    with torch.no_grad():
        recurrent.recurrent.weight.copy_(torch.from_numpy(np.asarray(back.weight)))
    return recurrent


def _module(name: str, node: Any, dt: float, late: bool) -> nn.Module:
    kind = type(node).__name__

    def pair(value: Any) -> Any:
        return value if isinstance(value, str) else tuple(np.atleast_1d(value).tolist())

    layer: Any
    if kind in ("Linear", "Affine"):
        layer = nn.Linear(node.weight.shape[1], node.weight.shape[0], bias=kind == "Affine")
    elif kind in ("Conv1d", "Conv2d"):
        make = nn.Conv1d if kind == "Conv1d" else nn.Conv2d
        size = node.weight.shape
        stride, padding, dilation = map(pair, (node.stride, node.padding, node.dilation))
        layer = make(
            size[1] * int(node.groups), size[0], size[2:], stride, padding, dilation,
            int(node.groups),
        )  # fmt: skip
    elif kind in ("AvgPool2d", "SumPool2d"):
        make_pool = nn.AvgPool2d if kind == "AvgPool2d" else SumPool2d
        return make_pool(*map(pair, (node.kernel_size, node.stride, node.padding)))
    elif kind == "Flatten":
        return nn.Flatten()
    elif kind == "Delay":
        return _delay(name, node, dt)
    else:
        return _remembered(node, dt) or of_arrays(name, node, dt, late)
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


def _remembered(node: Any, dt: float) -> Neuron | None:
    """The neuron that `to_nir` wrote, if the node still holds its constants."""
    hint = dict(node.metadata or {})
    text = hint.pop("spikeloom", None)
    if text is None:
        return None
    said = json.loads(text.decode() if isinstance(text, bytes) else str(text))
    kind, strict = said.pop("kind"), said.pop("strict")
    if kind not in FORMS or kind == "EulerLIF":
        return None
    made = _build(kind, said, hint)
    if made is None:
        return None
    made.surrogate.strict = strict
    name, values = FORMS[kind](made, dt, "")
    shape = np.asarray(node.v_leak if hasattr(node, "v_leak") else node.r).shape
    same = all(
        np.array_equal(np.asarray(getattr(node, key)), array_of(full(torch.as_tensor(v), shape)))
        for key, v in values.items()
    )
    return made.eval() if same and type(node).__name__ == name else None


def _build(kind: str, said: dict[str, Any], tensors: dict[str, Any]) -> Neuron | None:
    """A neuron of these constants and weights; None if they do not make one."""
    starts: dict[str, dict[str, Any]] = {
        "PLIF": {"tau": 2.0},
        "PCuLIF": {"tau_m": 2.0, "tau_s": 2.0},
    }
    given = {**said, **starts.get(kind, {})}
    size = next((np.shape(tensors[key]) for key in ("w", "membrane") if key in tensors), None)
    if size is not None:
        given["shape"] = tuple(size)
    if kind in ("GLIF", "FusedGLIF"):
        width = np.asarray(tensors.get("alpha", tensors.get("tau", 0.0)))
        given["channels"] = len(width) if width.ndim else None
    try:
        made = getattr(neurons, kind)(**given)
        made.load_state_dict({k: torch.as_tensor(np.asarray(v)) for k, v in tensors.items()})
    except (TypeError, ValueError, RuntimeError, KeyError):
        return None
    return made
