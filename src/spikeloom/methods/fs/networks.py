"""The networks of first-spike coding, as `Classifier`s.

    fc           [Linear (BN) N (Dropout)] x hidden   Linear N
    dvsgesture   [c64 N] [c128 N] P N [c128 N] P N   Linear 128 N   Linear N       c: 3x3
    dvsplane     [c32 N] [c64 N] P N [c128 N] P N    Linear 256 N   Linear N       first c: 5x5, 2

N is a layer of spiking neurons, in `nn.Recurrent` where the layer hears its own spikes; P pooling
2x2, with neurons of its own. With `delays` a learned delay (`nn.Delay`) stands before every Linear
of fc. Nothing has a bias; all weights start Xavier-uniform. The output is one neuron per class,
whose potential before reset ranks it where it is silent.
"""

from collections import OrderedDict
from collections.abc import Iterable
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from spikeloom.data.base import DataSpec
from spikeloom.errors import ConfigError
from spikeloom.methods.base import check_maps
from spikeloom.methods.fs import loss
from spikeloom.methods.fs.config import Constants, FsNetwork
from spikeloom.methods.fs.first_spike import encode, first_spike_votes
from spikeloom.methods.shared import full
from spikeloom.neurons import AdLIF, CuLIF, Neuron, PCuLIF
from spikeloom.nn import (
    BatchNorm,
    Classifier,
    Delay,
    Dropout,
    Latency,
    Output,
    Recurrent,
    Sequential,
    per_step,
)
from spikeloom.nn.state import in_pieces

# Channels of the convolutions, kernel and stride of the first, neurons of the recurrent layer.
_CONVOLUTIONAL = {
    "dvsgesture": ((64, 128, 128), 3, 1, 128),
    "dvsplane": ((32, 64, 128), 5, 2, 256),
}


def build(network: FsNetwork, data: DataSpec) -> "FsClassifier":
    """The network that `network` describes, for samples of `data`.

    Raises `ConfigError` if the two do not fit.
    """
    if network.name == "fc":
        return FsClassifier(network, data, _fully_connected(network, data))
    check_maps(network.name, data, "use network.name = fc")
    return FsClassifier(network, data, _convolutional(network, data))


class FsClassifier(Classifier):
    """Hidden layers and one output neuron per class, read by first spike or by rate.

    scores: first-spike  -f_c, the time of the first spike with its sign changed
            rate          spikes per time step
    """

    def __init__(self, network: FsNetwork, data: DataSpec, layers: tuple[Sequential, int]) -> None:
        super().__init__()
        self.network = network
        self.shape = data.shape
        coded = network.coded or max(network.T // 2, 1)
        self.latency = Latency(coded, threshold=0.1) if data.kind == "static" else None
        self.hidden, features = layers
        self.output_delay = _delay(network, features) if network.delays else None
        self.output = nn.Linear(features, data.class_count, bias=False)
        self.output_neuron = _fixed(network, network.output_neuron)
        for name, weight in self.named_parameters():
            if name.endswith("weight") and weight.dim() > 1:
                nn.init.xavier_uniform_(weight)

    course_names = ("spikes", "potentials")

    @property
    def read_by(self) -> Literal["mean", "first spike"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "mean" if self.network.readout == "rate" else "first spike"

    def current(self, inputs: Tensor) -> Tensor:
        """`inputs`: `[T, B, ...]`, counts of events, the empty steps at the end; or images `[B, C,
        H, W]` of intensities in [0, 1], whose pixels become single spikes: the method's own code
        (`nn.Latency`), then empty steps."""
        if self.latency is not None:
            coded = self.latency(inputs.expand(self.latency.time_steps, *inputs.shape))
            empty = coded.new_zeros(self.network.T - len(coded), *inputs.shape)
            inputs = torch.cat([coded, empty])
        length = in_pieces() or inputs.shape[0] == self.network.T
        if not length or tuple(inputs.shape[2:]) != self.shape:
            raise ConfigError(
                f"input of shape {list(inputs.shape)}: expected [T, B, ...] with T="
                f"{self.network.T} and samples {list(self.shape)}; set network.T to the number of "
                "frames"
            )
        return inputs

    def read(self, *course: Tensor) -> Output:
        spikes, potentials = course
        exact = full(spikes)
        if self.network.readout == "rate":
            return Output(exact.mean(0), exact, exact, potentials)
        times = encode(
            exact, potentials, divisor=self.network.window, amplitude=self.network.amplitude
        )
        votes = None if self.training else first_spike_votes(times, spikes.shape[0])
        return Output(-times, votes, exact, potentials)

    def loss(self, output: Output, labels: Tensor) -> Tensor:
        """Of the readout that is trained; a silent label neuron costs extra in training only."""
        network = self.network
        if network.readout == "rate":
            return loss.rate_loss(output.scores, labels, network.fr_alpha)
        times = -output.scores
        total = loss.first_spike_loss(times, labels, network.fs_alpha)
        if self.training:
            total = total + loss.silent_label_penalty(
                times, labels, network.T, network.silent_weight, network.silent_rate
            )
        return total

    def parameter_groups(self) -> Iterable[dict[str, object]]:
        """Delays, which are in time steps, learn faster and do not decay."""
        delays = [layer.delay for layer in self.modules() if isinstance(layer, Delay)]
        if not delays:
            return super().parameter_groups()
        others = [p for p in self.parameters() if all(p is not delay for delay in delays)]
        apart = {"lr_scale": self.network.delay_lr, "weight_decay": 0.0}
        return [{"params": others}, {"params": delays, **apart}]

    def before_step(self) -> None:
        """AdLIF: a and b are back in [0, 1] before they are updated, as published."""
        for module in self.modules():
            if isinstance(module, AdLIF):
                module.clamp_()

    def after_step(self) -> None:
        """Autograd form: the decays of every layer, also those that do not learn, stay bounded.
        Delays see fewer steps beside their own."""
        for module in self.modules():
            if isinstance(module, Delay):
                module.anneal()
            if isinstance(module, PCuLIF):
                module.clamp_()

    def course(self, current: Tensor) -> tuple[Tensor, Tensor]:
        """Output spikes and potentials before reset, `[T, B, classes]`."""
        hidden = self.hidden(current)
        if self.output_delay is not None:
            hidden = self.output_delay(hidden)
        run = self.output_neuron(per_step(self.output, hidden), None, ("h",))
        return run.spikes, run.records["h"]


def _fully_connected(network: FsNetwork, data: DataSpec) -> tuple[Sequential, int]:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    features = prod(data.shape)
    if len(data.shape) > 1:
        layers["flatten"] = nn.Flatten()
    for number, width in enumerate(network.hidden, start=1):
        layers |= _linear(network, number, features, width, network.hidden_neuron)
        features = width
    return Sequential(layers), features


def _convolutional(network: FsNetwork, data: DataSpec) -> tuple[Sequential, int]:
    channels, kernel, stride, width = _CONVOLUTIONAL[network.name]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    before = data.shape[0]
    sides = [-(-side // stride) for side in data.shape[1:]]
    kind = network.pool or ("max" if network.form == "kernel" else "avg")
    for number, after in enumerate(channels, start=1):
        size = kernel if number == 1 else 3
        layers[f"conv{number}"] = nn.Conv2d(
            before, after, size, stride if number == 1 else 1, size // 2, bias=False
        )
        layers[f"conv{number}_neuron"] = _hidden_neuron(network, network.hidden_neuron, ())
        if number > 1:
            pool = f"pool{number - 1}"
            layers[pool] = nn.MaxPool2d(2) if kind == "max" else nn.AvgPool2d(2)
            layers[f"{pool}_neuron"] = _hidden_neuron(network, network.hidden_neuron, ())
            sides = [side // 2 for side in sides]
        before = after
    if min(sides) < 1:
        raise ConfigError(
            f"network {network.name!r} on samples of {data.shape[1]}x{data.shape[2]}: nothing is "
            "left after pooling; use larger samples"
        )
    layers["flatten"] = nn.Flatten()
    layers |= _linear(network, 1, before * sides[0] * sides[1], width, network.output_neuron)
    return Sequential(layers), width


def _linear(
    network: FsNetwork, number: int, features: int, width: int, constants: Constants
) -> "OrderedDict[str, nn.Module]":
    """A hidden linear layer with what belongs to it."""
    published_fc = network.name == "fc" and network.form == "kernel"
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if network.delays:
        layers[f"delay{number}"] = _delay(network, features)
    layers[f"linear{number}"] = nn.Linear(features, width, bias=False)
    if published_fc if network.batchnorm is None else network.batchnorm:
        layers[f"norm{number}"] = BatchNorm(width, statistics="folded")
    neuron = _hidden_neuron(network, constants, (width,))
    if not published_fc if network.recurrent is None else network.recurrent:
        # Autograd form: a spike joins the synaptic current at once, not through the next input.
        into = "input" if network.form == "kernel" else "i"
        layers[f"neuron{number}"] = Recurrent(neuron, width, into=into)
    else:
        layers[f"neuron{number}"] = neuron
    dropout = network.dropout
    if dropout is None:
        dropout = 0.25 if published_fc else 0.0
    if dropout:
        layers[f"dropout{number}"] = Dropout(dropout)
    return layers


def _delay(network: FsNetwork, features: int) -> Delay:
    return Delay(features, network.delays, decay=network.delay_decay)


def _hidden_neuron(network: FsNetwork, constants: Constants, shape: tuple[int, ...]) -> Neuron:
    """`shape`: of constants that learn."""
    kind = network.neuron
    if kind is None and network.name == "fc":
        kind = "adlif" if network.form == "kernel" else "pculif"
    tau_m, tau_s, threshold = constants
    match kind:
        case "adlif":
            return AdLIF(tau_m, shape=shape, v_threshold=threshold)
        case "pculif":
            form, delay = ("sigmoid", 1) if network.form == "kernel" else ("direct", 2)
            return PCuLIF(tau_m, tau_s, shape=shape, form=form, v_threshold=threshold, delay=delay)
        case _:
            return _fixed(network, constants)


def _fixed(network: FsNetwork, constants: Constants) -> CuLIF | PCuLIF:
    tau_m, tau_s, threshold = constants
    if network.form == "kernel":
        return CuLIF(tau_m, tau_s, v_threshold=threshold)
    # The published program clamps the decays of these layers as well: they are state.
    return PCuLIF(tau_m, tau_s, form="direct", learn=False, v_threshold=threshold, delay=2)
