"""Synaptic operations of a network and an estimate of their energy.

AC  of a layer = sum over its input spikes of their fan-out       accumulate: one addition each
MAC of a layer = synapses x evaluations per sample                where the input is real-valued
E = 0.9 pJ x AC + 4.6 pJ x MAC          32-bit floating point at 45 nm: Horowitz, ISSCC 2014
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from spikeloom.analysis.rates import neuron_layers
from spikeloom.hooks import Look, hooked
from spikeloom.nn.classifier import Classifier, Output

Synapses = nn.Linear | _ConvNd

PICOJOULE_PER_AC = 0.9
PICOJOULE_PER_MAC = 4.6

ASSUMPTIONS = (
    "Counted are convolutions and linear layers, as if normalisation were folded into their "
    "weights; neuron updates, pooling, biases, and traffic to and from memory are not. A spike "
    "costs one accumulate per synapse that it reaches; zeros cost nothing, padding is not counted. "
    "Average-pooled and summed spikes count as the spikes they are made of, event frames as their "
    "events. Layers with any other input multiply: one multiply-accumulate per synapse, once per "
    "sample where the layer is evaluated once (a static coding layer), T times otherwise. "
    f"{PICOJOULE_PER_AC} pJ per accumulate and {PICOJOULE_PER_MAC} pJ per multiply-accumulate: "
    "32-bit floating point at 45 nm (Horowitz, ISSCC 2014). The same network without spikes is one "
    "pass of multiply-accumulates over every synapse. An estimate of arithmetic, not a measurement."
)

# An average-pooled spike is a multiple of 1 / window; with more levels than this it is a value.
_LEVELS = 256
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class LayerOperations:
    """One convolution or linear layer, per sample.

    `synapses`: connections between its inputs and outputs. `evaluations`: how often it runs per
    sample. `accumulates` and `multiplies`: its operations (AC, MAC).
    """

    layer: str
    kind: Literal["conv", "linear"]
    synapses: int
    evaluations: float
    accumulates: float
    multiplies: float

    @property
    def picojoule(self) -> float:
        return PICOJOULE_PER_AC * self.accumulates + PICOJOULE_PER_MAC * self.multiplies

    @property
    def dense_picojoule(self) -> float:
        """The energy of the same layer in a network without spikes, evaluated once."""
        return PICOJOULE_PER_MAC * self.synapses


@dataclass(frozen=True)
class Operations:
    """All layers in the order of evaluation, averaged over `samples`."""

    layers: tuple[LayerOperations, ...]
    samples: int
    assumptions: str = ASSUMPTIONS

    @property
    def accumulates(self) -> float:
        return sum(layer.accumulates for layer in self.layers)

    @property
    def multiplies(self) -> float:
        return sum(layer.multiplies for layer in self.layers)

    @property
    def synapses(self) -> int:
        return sum(layer.synapses for layer in self.layers)

    @property
    def picojoule(self) -> float:
        return sum(layer.picojoule for layer in self.layers)

    @property
    def dense_picojoule(self) -> float:
        return sum(layer.dense_picojoule for layer in self.layers)


@dataclass
class _Count:
    kind: Literal["conv", "linear"]
    synapses: int = 0
    rows: int = 0
    accumulates: float = 0.0
    multiplies: float = 0.0
    fan_out: dict[tuple[int, ...], Tensor] = field(default_factory=dict)


class SynapticOperations:
    """Counts the operations of every convolution and linear layer inside a `with` block.

        with SynapticOperations(network) as counter:
            network(inputs)
        counter.per_sample().picojoule

    Counts are exact for the inputs seen: fan-out is that of each position, borders and strides
    included. A layer's input counts as spikes when it consists of whole multiples of one value, as
    0/1 spikes, spikes of height V, and average-pooled spikes do; ahead of the first neuron only
    whole numbers do (event counts, Poisson spikes).
    """

    def __init__(self, network: Classifier) -> None:
        self._network = network
        self._counts: dict[str, _Count] = {}
        self._samples = 0
        self._fired = False
        self._hooks = ExitStack()

    def __enter__(self) -> "SynapticOperations":
        network = self._network
        before: dict[nn.Module, Look] = {network: self._note_start}
        for path, layer in network.named_modules():
            if isinstance(layer, Synapses):
                before[layer] = self._hook(path)
        before |= dict.fromkeys(neuron_layers(network).values(), self._note_neuron)
        self._hooks.enter_context(hooked(before, {network: self._note_end}))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hooks.close()

    def per_sample(self) -> Operations:
        """Mean operations per sample of everything that ran in the block."""
        samples = max(self._samples, 1)
        layers = tuple(
            LayerOperations(
                layer=path,
                kind=count.kind,
                synapses=count.synapses,
                evaluations=count.rows / samples,
                accumulates=count.accumulates / samples,
                multiplies=count.multiplies / samples,
            )
            for path, count in self._counts.items()
        )
        return Operations(layers, self._samples)

    def _note_start(self, network: nn.Module, inputs: object) -> None:
        self._fired = False

    def _note_neuron(self, neuron: nn.Module, inputs: object) -> None:
        self._fired = True

    def _note_end(self, network: nn.Module, inputs: object, output: Output) -> None:
        self._samples += output.scores.shape[0]

    def _hook(self, path: str) -> Callable[[Synapses, tuple[Tensor, ...]], None]:
        @torch.no_grad()
        def count(layer: Synapses, inputs: tuple[Tensor, ...]) -> None:
            x = _rows(layer, inputs[0])
            record = self._counts.setdefault(path, _Count("conv" if x.dim() > 2 else "linear"))
            places = tuple(x.shape[2:])
            if places not in record.fan_out:
                record.fan_out[places] = _fan_out(layer, places).to(x.device)
            fan_out = record.fan_out[places]
            record.synapses = round(x.shape[1] * fan_out.sum().item())
            record.rows += x.shape[0]
            unit = _spike_height(x, whole=not self._fired)
            if unit is None:
                record.multiplies += record.synapses * x.shape[0]
            else:
                spikes = x.sum((0, 1), dtype=torch.float64) / unit
                record.accumulates += (spikes * fan_out).sum().item()

        return count


def _rows(layer: Synapses, x: Tensor) -> Tensor:
    """The input as one row per evaluation: `[rows, features]`, or `[rows, channels, *places]`."""
    axes = len(layer.kernel_size) if isinstance(layer, _ConvNd) else 0
    return x.detach().reshape(-1, *x.shape[x.dim() - axes - 1 :])


def _fan_out(layer: Synapses, places: tuple[int, ...]) -> Tensor:
    """How many outputs an input reaches from each place of one channel, `[*places]`, float64.

    For a convolution, transposed or not, that is the gradient of the same convolution with all
    weights 1: exact at the borders and for every stride.
    """
    if isinstance(layer, nn.Linear):
        return torch.tensor(layer.out_features, dtype=torch.float64)
    axes = len(places) - 1
    with torch.enable_grad():
        one = torch.zeros(1, 1, *places, dtype=torch.float64, requires_grad=True)
        kernel = torch.ones(1, 1, *layer.kernel_size, dtype=torch.float64)
        if layer.transposed and not isinstance(layer.padding, str):
            spread = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes]
            sizes = (layer.stride, layer.padding, layer.output_padding)
            out = spread(one, kernel, None, *sizes, 1, layer.dilation)
        else:
            convolve = (F.conv1d, F.conv2d, F.conv3d)[axes]
            out = convolve(one, kernel, None, layer.stride, layer.padding, layer.dilation)
        (reached,) = torch.autograd.grad(out.sum(), one)
    return reached[0, 0] * (layer.out_channels // layer.groups)


def _spike_height(x: Tensor, *, whole: bool) -> float | None:
    """The one value that all of `x` are multiples of, 1 if `whole`; None if `x` is not spikes."""
    fired = x[x != 0].double()
    if fired.numel() == 0:
        return 1.0
    lowest = fired.min().item()
    unit = 1.0 if whole else lowest
    levels = fired / unit
    near = (levels - levels.round()).abs() <= _TOLERANCE * levels
    few = whole or levels.max().item() <= _LEVELS
    return unit if lowest > 0 and few and bool(near.all()) else None
