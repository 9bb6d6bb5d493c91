"""Spike rasters and membrane potentials of single samples, layer by layer.

The neurons' inputs are captured in an ordinary forward pass; each neuron is then run again on its
own input with recording on. A network needs no code for this.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from spikeloom.analysis.rates import neuron_layers
from spikeloom.hooks import hooked
from spikeloom.neurons import Neuron, State

# What a neuron is called with: the current, and a state where the caller carries one.
Arguments = tuple[Tensor] | tuple[Tensor, State | None]


@dataclass(frozen=True)
class LayerTrace:
    """What one layer of N neurons did in response to one sample, on the CPU.

    `spikes` `[T, N]`, bool. `potentials`: the course `[T, N]`, float32, of every state and observed
    value of the neuron (`v` after reset, `h` before it). `shape`: the layer's own, of N neurons.
    `rest`: the value of its first state before the first step. `threshold`: the firing threshold,
    where the neuron has a single one called `v_threshold`.
    """

    layer: str
    spikes: Tensor
    potentials: dict[str, Tensor]
    shape: tuple[int, ...]
    rest: float
    threshold: float | None

    @property
    def rate(self) -> float:
        """Spikes per neuron per time step."""
        return self.spikes.double().mean().item() if self.spikes.numel() else 0.0


@torch.no_grad()
def trace(
    network: nn.Module,
    inputs: Tensor,
    sample: int = 0,
    answer: Callable[[Tensor], object] | None = None,
) -> list[LayerTrace]:
    """The traces of every neuron layer for sample number `sample` of the batch `inputs`.

    The network runs once, in the mode it is in (call `eval()` first): `answer(inputs)`, where it is
    not called with its inputs alone. Layers come in the order they ran in; one that is called with
    a state, step after step, ran once; one that runs several times without gives its last run.
    """
    captured: dict[str, list[tuple[Neuron, Tensor, State | None]]] = {}

    def capture(path: str, layer: Neuron, arguments: Arguments) -> None:
        chosen = slice(sample, sample + 1)
        state = (arguments[1] or None) if len(arguments) == 2 else None
        before = []
        if state is not None:
            state = tuple(value[chosen] if value.dim() else value for value in state)
            before = captured.get(path, [])
        captured[path] = [*before, (layer, arguments[0][:, chosen], state)]

    looks = {layer: partial(capture, path) for path, layer in neuron_layers(network).items()}
    with hooked(looks):
        (answer or network)(inputs)
    return [_trace(path, calls) for path, calls in captured.items()]


def _trace(path: str, calls: list[tuple[Neuron, Tensor, State | None]]) -> LayerTrace:
    """The calls of one layer, each run again from the state that it was given, end to end."""
    layer, x, _ = calls[0]
    names = (*layer.states, *layer.observed)
    runs = [layer.run(current, state, record=names) for _, current, state in calls]
    spikes = torch.cat([run.spikes for run in runs])
    records = {name: torch.cat([run.records[name] for run in runs]) for name in names}
    threshold = getattr(layer, "v_threshold", None)
    return LayerTrace(
        layer=path,
        spikes=(spikes != 0).flatten(1).cpu(),
        potentials={name: values.flatten(1).float().cpu() for name, values in records.items()},
        shape=tuple(x.shape[2:]),
        rest=layer.rest().get(layer.states[0], 0.0),
        threshold=float(threshold) if isinstance(threshold, int | float) else None,
    )
