"""Synaptic operations of a network and an estimate of their energy.

AC  of a layer = sum over its input spikes of their fan-out       accumulate: one addition each
MAC of a layer = synapses x evaluations per sample                where the input is real-valued
E = 0.9 pJ x AC + 4.6 pJ x MAC          32-bit floating point at 45 nm: Horowitz, ISSCC 2014
"""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from spikeloom.analysis.rates import neuron_layers
from spikeloom.hooks import Look, Watching
from spikeloom.nn.classifier import Output

Synapses = nn.Linear | _ConvNd

# An average-pooled spike is a multiple of 1 / window; with more levels than this it is a value.
_LEVELS = 256
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class EnergyConstants:
    """Picojoule of an operation; unless said otherwise at 45 nm (Horowitz, ISSCC 2014).

    `accumulate`, `multiply`: an addition, and a multiplication with its addition, 32-bit floating
    point. `memory`: a 32-bit read or write of an 8 kB memory beside the arithmetic. `integer_add`,
    `integer_multiply`: 32-bit integers; a product with b bits costs b / 32 of it.
    """

    accumulate: float = 0.9
    multiply: float = 4.6
    memory: float = 5.0
    integer_add: float = 0.1
    integer_multiply: float = 3.1


ASSUMPTIONS = (
    "Counted are convolutions and linear layers, as if normalisation were folded into their "
    "weights; neuron updates, pooling, biases, and traffic to and from memory are not. A spike "
    "costs one accumulate per synapse that it reaches; zeros cost nothing, padding is not counted. "
    "Average-pooled and summed spikes count as the spikes they are made of, event frames as their "
    "events. Layers with any other input multiply: one multiply-accumulate per synapse, once per "
    "sample where the layer is evaluated once (a static coding layer), T times otherwise. "
    f"{EnergyConstants.accumulate} pJ per accumulate and {EnergyConstants.multiply} pJ per "
    "multiply-accumulate: 32-bit floating point at 45 nm (Horowitz, ISSCC 2014). The same network "
    "without spikes is one pass of multiply-accumulates over every synapse. An estimate of "
    "arithmetic, not a measurement."
)


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
    constants: EnergyConstants = EnergyConstants()

    @property
    def picojoule(self) -> float:
        constants = self.constants
        return constants.accumulate * self.accumulates + constants.multiply * self.multiplies

    @property
    def dense_picojoule(self) -> float:
        """The energy of the same layer in a network without spikes, evaluated once."""
        return self.constants.multiply * self.synapses


@dataclass(frozen=True)
class Operations:
    """All layers in the order of evaluation, averaged over `samples`.

    `updates`: of membrane potentials, one for each neuron and time step; `neurons`: how many.
    """

    layers: tuple[LayerOperations, ...]
    samples: int
    assumptions: str = ASSUMPTIONS
    updates: float = 0.0
    neurons: int = 0
    constants: EnergyConstants = EnergyConstants()

    @property
    def time_steps(self) -> int:
        """T, as the layers that are evaluated most often show it."""
        return max((round(layer.evaluations) for layer in self.layers), default=1)

    def lines(self) -> list[tuple[str, float, float, str]]:
        """The estimate in three ways: name, picojoule per sample, the same of a network without
        spikes, and the assumptions. The last compares with activations of ceil(log2(T + 1)) bits,
        as many values as T steps can count, and says at which spike rate both cost the same.
        """
        c, T = self.constants, self.time_steps
        bits = math.ceil(math.log2(T + 1))
        operations = self.accumulates + self.multiplies
        product = c.integer_multiply * bits / 32 + c.integer_add
        even = product / (c.integer_add * T)
        return [
            (
                "arithmetic",
                self.picojoule,
                self.dense_picojoule,
                f"{c.accumulate:g} pJ an addition, {c.multiply:g} pJ a multiplication with its "
                "addition; memory and neurons cost nothing",
            ),
            (
                "with memory",
                self.picojoule + c.memory * (operations + 2 * self.updates),
                self.dense_picojoule + c.memory * (self.synapses + 2 * self.neurons),
                f"{c.memory:g} pJ for each 32-bit access: a weight for each operation, a potential "
                "read and written for each neuron and step (without spikes: once a neuron)",
            ),
            (
                f"against {bits} bits",
                c.integer_add * self.accumulates
                + (c.integer_multiply + c.integer_add) * self.multiplies,
                product * self.synapses,
                f"integers, {c.integer_add:g} pJ an addition, {c.integer_multiply:g} pJ a 32-bit "
                f"product; at {even:.3f} spikes per neuron and step both cost the same",
            ),
        ]

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


class SynapticOperations(Watching):
    """Counts the operations of every convolution and linear layer inside a `with` block.

        with SynapticOperations(network) as counter:
            network(inputs)
        counter.per_sample().picojoule

    Counts are exact for the inputs seen: fan-out is that of each position, borders and strides
    included. A layer's input counts as spikes when it consists of whole multiples of one value, as
    0/1 spikes, spikes of height V, and average-pooled spikes do; ahead of the first neuron only
    whole numbers do (event counts, Poisson spikes).
    """

    def __init__(self, network: nn.Module, batch_axis: int = 1) -> None:
        """`batch_axis`: of the network's input, `[T, B, ...]`; a classifier says it itself."""
        self._network = network
        self._batch_axis = batch_axis
        self._updates = 0
        self._neurons: dict[nn.Module, int] = {}
        self._counts: dict[str, _Count] = {}
        self._samples = 0
        self._fired = False

    def looks(self) -> tuple[dict[Any, Look], dict[Any, Look]]:
        network = self._network
        before: dict[Any, Look] = {network: self._note_start}
        for path, layer in network.named_modules():
            if isinstance(layer, Synapses):
                before[layer] = partial(self._note_layer, path)
        before |= dict.fromkeys(neuron_layers(network).values(), self._note_neuron)
        return before, {network: self._note_end}

    def per_sample(
        self, constants: EnergyConstants | None = None, samples: int | None = None
    ) -> Operations:
        """Mean operations per sample of everything that ran in the block.

        `samples`: how many ran, where the network's input does not tell (see `batch_axis`).
        """
        constants = constants or EnergyConstants()
        total = self._samples if samples is None else samples
        samples = max(total, 1)
        layers = tuple(
            LayerOperations(
                layer=path,
                kind=count.kind,
                synapses=count.synapses,
                evaluations=count.rows / samples,
                accumulates=count.accumulates / samples,
                multiplies=count.multiplies / samples,
                constants=constants,
            )
            for path, count in self._counts.items()
        )
        return Operations(
            layers,
            total,
            updates=self._updates / samples,
            neurons=sum(self._neurons.values()),
            constants=constants,
        )

    def _note_start(self, network: nn.Module, inputs: object) -> None:
        self._fired = False

    def _note_neuron(self, neuron: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._fired = True
        self._updates += inputs[0].numel()
        self._neurons[neuron] = inputs[0].shape[2:].numel()

    def _note_end(self, network: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        if isinstance(output, Output):
            self._samples += output.scores.shape[0]
        else:
            self._samples += inputs[0].shape[self._batch_axis]

    @torch.no_grad()
    def _note_layer(self, path: str, layer: Synapses, inputs: tuple[Tensor, ...]) -> None:
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
        plane = torch.zeros(1, 1, *places, dtype=torch.float64, requires_grad=True)
        kernel = torch.ones(1, 1, *layer.kernel_size, dtype=torch.float64)
        if layer.transposed and not isinstance(layer.padding, str):
            spread = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes]
            sizes = (layer.stride, layer.padding, layer.output_padding)
            out = spread(plane, kernel, None, *sizes, 1, layer.dilation)
        else:
            convolve = (F.conv1d, F.conv2d, F.conv3d)[axes]
            out = convolve(plane, kernel, None, layer.stride, layer.padding, layer.dilation)
        (reached,) = torch.autograd.grad(out.sum(), plane)
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
