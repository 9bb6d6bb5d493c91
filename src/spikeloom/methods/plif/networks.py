"""The networks of the PLIF paper, as `Classifier`s.

Every convolution is 3x3 with padding 1, without bias, followed by BatchNorm; linear layers have no
bias; weights start as PyTorch starts them. N is a layer of spiking neurons, P pooling 2x2, and the
readout votes:

    image    static coding, once: Conv, BN;  then over T: N P Conv BN N P           (mnist)
                                             N [Conv BN N] x2 P [Conv BN N] x3 P    (cifar10)
    frames   over T: [Conv BN N P] x layers
    both     Flatten Dropout Linear N [Dropout] Linear N     (no second dropout in cifar10)

The last N has 10 neurons per class.

Modules are named as in the authors' code (`static_conv`, `conv`, `fc`, same positions), so that
their weights load.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeloom.data.base import DataSpec
from spikeloom.methods.base import check_kind, halved
from spikeloom.methods.compact import WIDTH, CompactBody, CompactNetwork
from spikeloom.methods.plif.config import PlifNetwork
from spikeloom.methods.shared import LogitClassifier, frames, full, images
from spikeloom.neurons import LIF, PLIF, ATan, Neuron
from spikeloom.nn import BatchNorm, Classifier, Dropout, Output, Sequential, StaticCoding, Voting

_IMAGE_CHANNELS = {"mnist": 128, "cifar10": 256}
_EVENT_LAYERS = {"nmnist": 2, "cifar10dvs": 4, "dvs128gesture": 5}
_EVENT_CHANNELS = 128
_IMAGE_HIDDEN = 2048
_POOLS = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}


def build(network: PlifNetwork, data: DataSpec) -> "PlifClassifier | CompactClassifier":
    """The network that `network` describes, for samples of `data`.

    Raises `ConfigError` if the two do not fit: frames for an image network or the reverse, or
    samples too small.
    """
    if network.name == "compact":
        return CompactClassifier(network, data)
    check_kind(network.name, data, _IMAGE_CHANNELS, _EVENT_LAYERS)
    kind = PlifImageClassifier if data.kind == "static" else FrameClassifier
    classifier = kind(network, data)
    # Activations then have the channel last in memory, and on a CPU torch pools 4 times faster
    # (64 x 128 x 28 x 28, one thread, forward and backward: 8 ms against 25).
    return classifier.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


class PlifClassifier(Classifier):
    """Rate-coded classifier with the loss of the paper.

    counter_c = sum over t of the mean of the 10 neurons of class c at t     (0 ... T: the scores)
    loss = mean over batch and classes of (counter / T - onehot)^2
    """

    def __init__(self, network: PlifNetwork, data: DataSpec) -> None:
        super().__init__()
        self.time_steps = network.T
        self.class_count = data.class_count
        self.voting = Voting(network.votes)

    read_by = "sum"
    course_names = ("spikes",)
    conv: Sequential
    fc: Sequential

    def course(self, current: Tensor) -> tuple[Tensor, ...]:
        """The spikes of the last layer."""
        return (self.fc(self.conv(current)),)

    def read(self, *course: Tensor) -> Output:
        (spikes,) = course
        spikes = full(spikes)
        # Spikes are counted before they are averaged: equal votes are equal to the last bit.
        votes = self.voting(spikes)
        return Output(scores=self.voting(spikes.sum(0)), votes=votes, spikes=votes)

    def loss(self, output: Output, labels: Tensor) -> Tensor:
        rate = output.scores / self.time_steps
        return F.mse_loss(rate, F.one_hot(labels, self.class_count).to(rate.dtype))

    @torch.no_grad()
    def scalars(self) -> dict[str, float]:
        """`w0`, `w1`, ...: the raw parameter of every PLIF layer in order; tau = 1 + exp(-w)."""
        layers = [module for module in self.modules() if isinstance(module, PLIF)]
        return {f"w{i}": layer.w.item() for i, layer in enumerate(layers)}


class PlifImageClassifier(PlifClassifier):
    """The networks for images: a coding layer computed once, its output the input current at every
    time step."""

    def __init__(self, network: PlifNetwork, data: DataSpec) -> None:
        super().__init__(network, data)
        channels = network.channels or _IMAGE_CHANNELS[network.name]
        pool = _POOLS[network.pool]
        conv = nn.Conv2d(data.shape[0], channels, 3, padding=1, bias=False)
        # An ordinary BatchNorm: the coding layer sees the image once, not once per time step.
        self.static_conv = StaticCoding(network.T, conv, nn.BatchNorm2d(channels))
        blocks: list[nn.Module] = [_neuron(network)]
        for count in (0, 1) if network.name == "mnist" else (2, 3):
            for _ in range(count):
                blocks += _block(channels, channels, network)
            blocks.append(pool(2))
        self.conv = Sequential(*blocks)
        height, width = halved(network.name, data, 2, "use larger samples")
        features = channels * height * width
        hidden = network.hidden or _IMAGE_HIDDEN
        second_dropout = network.name == "mnist"
        self.fc = _readout(network, features, hidden, self.class_count, second_dropout)

    def current(self, inputs: Tensor) -> Tensor:
        """`inputs`: images `[B, C, H, W]`."""
        return self.static_conv(images(inputs))


class FrameClassifier(PlifClassifier):
    """The networks for event frames: another input at every time step."""

    def __init__(self, network: PlifNetwork, data: DataSpec) -> None:
        super().__init__(network, data)
        channels = network.channels or _EVENT_CHANNELS
        pool = _POOLS[network.pool]
        layers = network.layers or _EVENT_LAYERS[network.name]
        advice = "use larger samples or fewer network.layers"
        height, width = halved(network.name, data, layers, advice)
        blocks: list[nn.Module] = []
        for i in range(layers):
            inputs = data.shape[0] if i == 0 else channels
            blocks += [*_block(inputs, channels, network), pool(2)]
        self.conv = Sequential(*blocks)
        features = channels * height * width
        hidden = network.hidden or max(features // 4, 1)
        self.fc = _readout(network, features, hidden, self.class_count, second_dropout=True)

    def current(self, inputs: Tensor) -> Tensor:
        """`inputs`: frames `[T, B, 2, H, W]` of event counts, not normalised: BatchNorm scales
        them."""
        return frames(inputs, self.time_steps)


class CompactClassifier(CompactNetwork, LogitClassifier):
    """The small network of `methods.compact`."""

    def __init__(self, network: PlifNetwork, data: DataSpec) -> None:
        super().__init__()
        self.network = network
        self.time_steps = network.T
        self.body = CompactBody(
            data,
            network.channels or WIDTH,
            norm=lambda channels: BatchNorm(channels, statistics=network.batchnorm),
            neuron=lambda _: _neuron(network),
        )


def _readout(
    network: PlifNetwork, features: int, hidden: int, classes: int, second_dropout: bool
) -> Sequential:
    return Sequential(
        nn.Flatten(),
        Dropout(network.dropout),
        nn.Linear(features, hidden, bias=False),
        _neuron(network),
        *[Dropout(network.dropout)] * second_dropout,
        nn.Linear(hidden, classes * network.votes, bias=False),
        _neuron(network),
    )


def _block(inputs: int, outputs: int, network: PlifNetwork) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return [conv, BatchNorm(outputs, statistics=network.batchnorm), _neuron(network)]


def _neuron(network: PlifNetwork) -> Neuron:
    kind = PLIF if network.neuron == "plif" else LIF
    return kind(
        network.tau,
        v_threshold=network.v_threshold,
        v_reset=None if network.v_reset == "soft" else network.v_reset,
        detach_reset=network.detach_reset,
        surrogate=ATan(network.alpha, learnable=network.learn_alpha),
    )
