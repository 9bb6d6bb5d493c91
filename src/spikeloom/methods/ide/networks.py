"""The networks of the IDE paper, as `Classifier`s.

A_x is the input transform, A_i lead from layer to layer, the last one back to the first layer; BN
is BatchNorm, and only the feedback, which has neither bias nor BN, is norm-restricted:

    f64c5       A_x conv 5x5 stride 2, BN           A_1 conv 5x5
    f400        A_x linear, BN                      A_1 linear
    alexnet-f   A_x conv 3x3 stride 2, BN           A_1 ... A_4 conv 3x3, BN (A_2: stride 2)
    cifarnet-f                                      A_5 transposed conv 3x3 stride 2
    compact     Whiten, GELU; A_x conv 3x3, BN, pooled; A_1, A_2 conv 3x3, BN (A_1: stride 2)
                                                    A_3 transposed conv 3x3 stride 2

The readout is one linear map of the output layer's mean rate; the loss is cross-entropy.
"""

from collections.abc import Iterable
from itertools import pairwise
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeloom.data.base import DataSpec
from spikeloom.errors import ConfigError
from spikeloom.methods.base import check_maps
from spikeloom.methods.compact import WIDTH, Whitening, check_images
from spikeloom.methods.ide.config import IdeNetwork
from spikeloom.methods.ide.convergence import figures
from spikeloom.methods.ide.feedback import FeedbackNetwork
from spikeloom.methods.ide.transforms import WeightTransform
from spikeloom.nn import Classifier, Figure, Output

CHANNELS = {
    "f64c5": (64,),
    "f400": (400,),
    "alexnet-f": (96, 256, 384, 384, 256),
    "cifarnet-f": (128, 256, 512, 1024, 512),
    "compact": (WIDTH, 4 * WIDTH, 4 * WIDTH),
}


def build(network: IdeNetwork, data: DataSpec) -> "IdeClassifier":
    """The network that `network` describes, for samples of `data`.

    Raises `ConfigError` if the samples do not fit.
    """
    channels = network.channels or CHANNELS[network.name]
    if network.name == "f400":
        return IdeClassifier(*_linear(channels[0], data), network, data)
    check_maps(network.name, data, "use network.name = f400")
    if network.name == "f64c5":
        layers = _one_convolution(channels[0], network, data)
    elif network.name == "compact":
        layers = _compact(channels, data)
    else:
        layers = _five_convolutions(channels, network, data)
    return IdeClassifier(*layers, network, data)


class IdeClassifier(Classifier):
    """A feedback network with a linear readout of its output layer's rates, `features` of them.

    Evaluation also answers votes: those of step t are the readout of the spikes at t, weighted so
    that their sum over the first t steps orders the classes as the rates over t steps do.
    """

    def __init__(
        self,
        input_transform: WeightTransform,
        transforms: Iterable[WeightTransform],
        features: int,
        network: IdeNetwork,
        data: DataSpec,
    ) -> None:
        super().__init__()
        self.network = network
        self.flat = network.name == "f400"
        self.shape = data.shape
        self.whitening = Whitening(data.shape[0]) if network.name == "compact" else None
        self.feedback = FeedbackNetwork(
            input_transform, transforms, network, events=data.kind == "events"
        )
        self.readout = nn.Linear(features, data.class_count)

    def forward(self, inputs: Tensor) -> Output:
        """`inputs`: images `[B, C, H, W]`, or event frames `[T, B, C, H, W]`."""
        inputs = self.arrange(inputs)
        if self.training:
            return self.read_out(self.feedback(inputs))
        votes: list[Tensor] = []

        def vote(t: int, spikes: list[Tensor]) -> None:
            fired = spikes[self.feedback.output_layer].flatten(1)
            weight = self.feedback.leak ** (self.feedback.time_steps - 1 - t)
            votes.append(F.linear(fired, self.readout.weight, self.readout.bias) * weight)

        output = self.read_out(self.feedback(inputs, observe=vote))
        return Output(output.scores, torch.stack(votes))

    def read_out(self, rate: Tensor) -> Output:
        """The scores of the output layer's rate `[B, ...]`."""
        return Output(self.readout(rate.flatten(1)))

    def parameter_groups(self) -> Iterable[dict[str, object]]:
        if self.network.decay == "all":
            return super().parameter_groups()
        weights = [p for p in self.parameters() if p.dim() > 1]
        others = [p for p in self.parameters() if p.dim() <= 1]
        return [{"params": weights}, {"params": others, "weight_decay": 0.0}]

    @torch.no_grad()
    def scalars(self) -> dict[str, float]:
        """How well rates and gradients converged since the last call."""
        return self.feedback.statistics()

    def figures(self, inputs: Tensor, labels: Tensor) -> list[Figure]:
        """How the solvers converge, and the rates to the equilibrium."""
        return figures(
            self.feedback,
            self.arrange(inputs),
            lambda rate: self.loss(self.read_out(rate), labels),
        )

    def arrange(self, inputs: Tensor) -> Tensor:
        """`inputs` as the feedback network takes them; `ConfigError` if they are none of ours."""
        time = (self.network.T,) if self.feedback.events else ()
        expected = len(time) + 1 + len(self.shape)
        if inputs.dim() != expected or (time and len(inputs) != time[0]):
            frames = f"frames [{time[0]}, B, ...]; set network.T" if time else "images [B, ...]"
            raise ConfigError(
                f"input of shape {list(inputs.shape)}: expected {frames} of samples "
                f"{list(self.shape)}"
            )
        if self.whitening is not None:
            return F.gelu(self.whitening(inputs)).to(inputs.dtype)  # also under autocast
        return inputs.flatten(len(time) + 1) if self.flat else inputs


Layers = tuple[WeightTransform, list[WeightTransform], int]
"""A_x, A_1 ... A_N, and the number of output rates."""


def _linear(width: int, data: DataSpec) -> Layers:
    transforms = [WeightTransform(nn.Linear(width, width, bias=False), norm=False)]
    return WeightTransform(nn.Linear(prod(data.shape), width), norm=True), transforms, width


def _one_convolution(width: int, network: IdeNetwork, data: DataSpec) -> Layers:
    padding = network.padding_x
    if padding is None:
        padding = 1 if data.kind == "events" else 2
    height, wide = (_convolved(size, 5, 2, padding) for size in data.shape[1:])
    if min(height, wide) < 1:
        raise ConfigError(
            f"network 'f64c5' with padding_x = {padding} on samples of {data.shape[1]}x"
            f"{data.shape[2]}: nothing is left after the 5x5 convolution; use larger samples"
        )
    return (
        WeightTransform(nn.Conv2d(data.shape[0], width, 5, stride=2, padding=padding), norm=True),
        [WeightTransform(nn.Conv2d(width, width, 5, padding=2, bias=False), norm=False)],
        width * height * wide,
    )


def _five_convolutions(channels: tuple[int, ...], network: IdeNetwork, data: DataSpec) -> Layers:
    first = [_convolved(size, 3, 2, 1) for size in data.shape[1:]]
    if any(size % 2 for size in first):
        raise ConfigError(
            f"network {network.name!r} on samples of {data.shape[1]}x{data.shape[2]}: the feedback "
            "doubles what the stride halved, so height and width must be multiples of 4"
        )
    onward, back = _onward(channels, halving=1), _back(channels, first)
    stem = nn.Conv2d(data.shape[0], channels[0], 3, stride=2, padding=1)
    return (
        WeightTransform(stem, norm=True),
        [*onward, WeightTransform(back, norm=False)],
        channels[-1] * _halves(first),
    )


def _compact(channels: tuple[int, ...], data: DataSpec) -> Layers:
    check_images(data)
    sizes = [(size - 1) // 2 for size in data.shape[1:]]  # after the whitening, and pooled
    back = _back(channels, sizes)
    stem = nn.Conv2d(8 * data.shape[0], channels[0], 3, padding=1)
    return (
        WeightTransform(stem, norm=True, pool=True),
        [*_onward(channels, halving=0), WeightTransform(back, norm=False)],
        channels[-1] * _halves(sizes),
    )


def _onward(channels: tuple[int, ...], halving: int) -> list[WeightTransform]:
    """From layer to layer; the one of number `halving` halves height and width."""
    transforms = []
    for i, (before, after) in enumerate(pairwise(channels)):
        conv = nn.Conv2d(before, after, 3, stride=2 if i == halving else 1, padding=1)
        transforms.append(WeightTransform(conv, norm=True))
    return transforms


def _back(channels: tuple[int, ...], sizes: list[int]) -> nn.ConvTranspose2d:
    """To the first layer, whose height and width are `sizes`."""
    height, width = sizes
    odd = (1 - height % 2, 1 - width % 2)
    return nn.ConvTranspose2d(
        channels[-1], channels[0], 3, stride=2, padding=1, output_padding=odd, bias=False
    )


def _halves(sizes: list[int]) -> int:
    return prod((size + 1) // 2 for size in sizes)


def _convolved(size: int, kernel: int, stride: int, padding: int) -> int:
    return (size + 2 * padding - kernel) // stride + 1
