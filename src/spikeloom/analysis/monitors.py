"""Watching neurons while a network runs, in memory that does not grow with what was seen; and
firing rates that gradients pass, for penalties.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikeloom.analysis.rates import Answer, LayerSums, neuron_layers
from spikeloom.hooks import Look, Watching
from spikeloom.neurons import Neuron

SPIKES = "spikes"


class Course:
    """What was seen of one value of one layer, on its device.

    `steps`: time steps times samples. `mean` and `deviation` over them, of each neuron `[...]`,
    float64. `histogram` `[bins]`, int64, counts all neurons; what lies outside `limits` counts in
    the outer bins. `last` `[T, n, ...]`: the course in the last n samples.
    """

    def __init__(self, last: int, bins: int, limits: tuple[float, float]) -> None:
        self.steps = 0
        self.last: Tensor | None = None
        self.histogram: Tensor | None = None
        self._keep, self._bins, self._limits = last, bins, limits
        self._sum = self._squares = torch.zeros((), dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """`values` `[T, B, ...]`."""
        exact = values.double()
        self._sum = self._sum + exact.sum((0, 1))
        self._squares = self._squares + exact.square().sum((0, 1))
        self.steps += values.shape[0] * values.shape[1]
        if self._bins:
            low, high = self._limits
            places = ((exact - low) / (high - low) * self._bins).long().clamp(0, self._bins - 1)
            counts = torch.bincount(places.flatten(), minlength=self._bins)
            self.histogram = counts if self.histogram is None else self.histogram + counts
        if self._keep:
            new = values[:, -self._keep :]
            if self.last is not None and self.last.shape[0] == len(new):
                new = torch.cat([self.last, new], 1)[:, -self._keep :]
            self.last = new.clone()

    @property
    def mean(self) -> Tensor:
        if not self.steps:
            raise ValueError("the layer has not run inside the block of the monitor yet")
        return self._sum / self.steps

    @property
    def deviation(self) -> Tensor:
        mean = self.mean
        return (self._squares / self.steps - mean.square()).clamp(min=0).sqrt()

    @property
    def edges(self) -> Tensor:
        """Of the bins of `histogram`, `[bins + 1]`."""
        return torch.linspace(*self._limits, self._bins + 1)


class Monitor(Watching):
    """Watches every neuron layer of `network`, whatever module it is, inside a `with` block.

        with Monitor(network, of=["spikes", "v"], last=8, bins=50) as seen:
            for images, _ in loader:
                network(images)
        seen["layers.1"].mean                   # spikes per step of each neuron
        seen["layers.1", "v"].histogram         # of its potentials

    Memory: two numbers for each neuron, the bins, and the courses of `last` samples, however much
    runs through. Spikes are those of the pass itself; states and observed values are had by running
    the layer once more on its own input, without gradients. Outputs and gradients stay as they are.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        of: Sequence[str] = (SPIKES,),
        layers: Sequence[str] | None = None,
        last: int = 0,
        bins: int = 0,
        limits: tuple[float, float] = (-1.0, 2.0),
    ) -> None:
        """`of`: "spikes", and names of states or observed values of the neurons. `layers`: their
        paths, all by default. `last`: samples whose course is kept. `bins`: of a histogram between
        `limits`; 0 for none.

        Raises:
            ValueError: there is no such layer, or one has no such value.
        """
        neurons = neuron_layers(network)
        chosen = list(neurons) if layers is None else list(layers)
        for path in chosen:
            if path not in neurons:
                raise ValueError(
                    f"no neuron layer {path!r}: there are {', '.join(neurons) or 'none'}"
                )
            values = (SPIKES, *neurons[path].states, *neurons[path].observed)
            if odd := [name for name in of if name not in values]:
                raise ValueError(f"{path} has no {odd[0]!r}: it has {', '.join(values)}")
        self._layers = {path: neurons[path] for path in chosen}
        self._names = tuple(name for name in of if name != SPIKES)
        self._courses = {(path, name): Course(last, bins, limits) for path in chosen for name in of}

    def looks(self) -> tuple[dict[Any, Look], dict[Any, Look]]:
        return {}, {layer: partial(self._look, path) for path, layer in self._layers.items()}

    def __getitem__(self, key: str | tuple[str, str]) -> Course:
        """Of a layer, its spikes; of (layer, name), that value."""
        return self._courses[(key, SPIKES) if isinstance(key, str) else key]

    def layers(self) -> list[str]:
        """Paths of the layers, in module order."""
        return list(self._layers)

    @torch.no_grad()
    def _look(self, path: str, layer: Neuron, inputs: Sequence[Any], output: Answer) -> None:
        if (path, SPIKES) in self._courses:
            spikes = output[0] if isinstance(output, tuple) else output
            self._courses[path, SPIKES].add(spikes.detach())
        if self._names:
            current, *state = inputs
            given = (state[0] or None) if state else None
            records = layer.run(current, given, record=self._names).records
            for name in self._names:
                self._courses[path, name].add(records[name])


class LiveRates(LayerSums):
    """Firing rates of every neuron layer inside a `with` block, as tensors that gradients pass.

        with LiveRates(network) as rates:
            output = network(inputs)
        loss = cross_entropy(output.mean(0), labels) + 0.1 * rates.mean()

    rate of a layer = mean of its output over time steps, samples and neurons: of spikes of height
    1 the spikes per neuron and step. Backward a spike has its surrogate's derivative, compiled and
    eager alike. Of several passes in a block it is the mean of all.
    """

    def per_layer(self) -> dict[str, Tensor]:
        """A scalar for each layer that has run, in module order."""
        return {
            path: self._sums[path] / self._places[path]
            for path in self._layers
            if path in self._sums
        }

    def mean(self) -> Tensor:
        """The rate of all neurons together, a scalar."""
        if not self._sums:
            raise ValueError("no neuron layer has run inside the block of LiveRates yet")
        places = sum(self._places[path] for path in self._sums)
        return torch.stack(list(self._sums.values())).sum() / places

    def _sum(self, spikes: Tensor) -> Tensor:
        return spikes.float().sum()
