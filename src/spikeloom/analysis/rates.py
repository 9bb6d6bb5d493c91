"""Firing rates of every neuron layer, counted while a network runs.

rate of a layer = spikes / (neurons x samples x time steps)      per neuron and time step, 0..1
"""

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikeloom.hooks import Look, Watching
from spikeloom.neurons import Neuron
from spikeloom.synapses.active import count_all
from spikeloom.synapses.functional import obstacle

# What a neuron answers: its spikes, or (spikes, state) where a state was given.
Answer = Tensor | tuple[Tensor, tuple[Tensor, ...]]

_LARGE = 1 << 18
"""Elements from which on our own count, ten times as fast on a CPU as torch's, is loaded."""


def neuron_layers(module: nn.Module) -> dict[str, Neuron]:
    """The neurons of `module` that fire, by module path, in module order; `module` itself is
    "neuron".
    """
    return {
        path or "neuron": layer
        for path, layer in module.named_modules()
        if isinstance(layer, Neuron) and layer.fires
    }


class SpikeCount(NamedTuple):
    """What was counted in one layer: `spikes` of `places` = neurons x samples x time steps."""

    spikes: int
    places: int

    @classmethod
    def sum(cls, counts: "Iterable[SpikeCount]") -> "SpikeCount":
        """All of `counts` together."""
        pairs = list(counts)
        return cls(sum(c.spikes for c in pairs), sum(c.places for c in pairs))

    @property
    def rate(self) -> float:
        """Spikes per neuron per time step; 0 for a layer that has not run."""
        return self.spikes / self.places if self.places else 0.0


class LayerSums(Watching):
    """Sums over what every neuron layer of `module` answers inside a `with` block."""

    def __init__(self, module: nn.Module) -> None:
        self._layers = neuron_layers(module)
        self._sums: dict[str, Tensor] = {}
        self._places = dict.fromkeys(self._layers, 0)
        self._neurons = dict.fromkeys(self._layers, 0)

    def looks(self) -> tuple[dict[Any, Look], dict[Any, Look]]:
        return {}, {layer: partial(self._look, path) for path, layer in self._layers.items()}

    def _look(self, path: str, layer: nn.Module, inputs: object, output: Answer) -> None:
        spikes = output[0] if isinstance(output, tuple) else output
        self._sums[path] = self._sums.get(path, 0) + self._sum(spikes)
        self._places[path] += spikes.numel()
        self._neurons[path] = spikes.shape[2:].numel()

    def _sum(self, spikes: Tensor) -> Tensor:
        """What is added up of `spikes` `[T, B, ...]`, a scalar."""
        raise TypeError(f"{type(self).__name__} must override _sum(spikes)")


class FiringRates(LayerSums):
    """Counts the spikes of every neuron layer of `module` inside a `with` block.

        with FiringRates(network) as rates:
            for batch in loader:
                network(batch.inputs)
        rates.per_layer()                   # {"layers.1": 0.12, ...}

    The counts are exact integers that stay on the layer's device, so counting never waits for it,
    and accumulate over all forward passes of the block. A spike is an output other than 0, whatever
    its height. Outputs, gradients, and the choice of backend are left as they are.
    """

    def counts(self) -> dict[str, SpikeCount]:
        """Spikes and places by layer, in module order; sums over processes give exact rates."""
        return {
            path: SpikeCount(int(self._sums.get(path, 0)), places)
            for path, places in self._places.items()
        }

    def per_layer(self) -> dict[str, float]:
        """Mean spikes per neuron per time step by layer, in module order."""
        return {path: count.rate for path, count in self.counts().items()}

    def neurons(self) -> dict[str, int]:
        """Neurons by layer, in module order; 0 for one that has not run."""
        return dict(self._neurons)

    def _sum(self, spikes: Tensor) -> Tensor:
        # int64: a float32 sum stops being exact at 2^24 spikes, a bfloat16 one at 2^8.
        spikes = spikes.detach()
        if spikes.numel() >= _LARGE and obstacle(spikes) is None:
            counted = count_all(spikes)
            if counted is not None:
                return torch.tensor(counted)
        return torch.count_nonzero(spikes)
