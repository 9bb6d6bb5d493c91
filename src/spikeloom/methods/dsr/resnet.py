"""Pre-activation ResNets, for small images and for ImageNet, on `[T, B, C, H, W]`.

N is a layer of neurons (ReLU in an ANN), BN normalises over time and batch together:

    basic block   a = N(BN(x))      y = conv3x3(D(N(BN(conv3x3(a)))))      out = y + shortcut(a)
    bottleneck    a = N(BN(x))      y = conv1x1(D(N(BN(conv3x3(N(BN(conv1x1(a))))))))   the same

The stride is that of the first convolution, and D dropout. The shortcut takes the spikes a, where
it is the identity too; usual pre-activation networks take x.

    small      conv3x3, stages, BN N AvgPool(4) N D linear BN N
    imagenet   conv7x7/2 BN N AvgPool(3, 2, 1), stages, BN N AvgPool(all) N linear BN N

Small networks have biases in the convolutions and a bare conv1x1 as shortcut; ImageNet ones have
no biases and BN behind it. Modules are named as in the authors' code, so that weights load.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from spikeloom.data.base import DataSpec
from spikeloom.errors import ConfigError
from spikeloom.methods.dsr.config import DsrNetwork
from spikeloom.nn import BatchNorm, Sequential, per_step

_STAGES = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3), "50": (3, 4, 6, 3)}
_POOL = 4
"""Positions per side that the small network averages."""

Activation = Callable[[], nn.Module]


def batch_norm(channels: int) -> BatchNorm:
    return BatchNorm(channels, statistics="folded")


class Block(nn.Module):
    """A pre-activation block of two (basic) or three (bottleneck) convolutions.

    `x` `[T, B, inputs, H, W]` -> `[T, B, outputs, H / stride, W / stride]`; a bottleneck is
    `outputs / 4` wide inside. `imagenet`: no biases, and BN in the shortcut.
    """

    time_first = True

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        stride: int,
        activation: Activation,
        dropout: float = 0.0,
        bottleneck: bool = False,
        imagenet: bool = False,
    ) -> None:
        super().__init__()
        width = outputs // 4 if bottleneck else outputs
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        widths = (inputs, *[width] * (len(kernels) - 1), outputs)
        self.count = len(kernels)
        for i, kernel in enumerate(kernels):
            conv = nn.Conv2d(
                widths[i],
                widths[i + 1],
                kernel,
                stride=stride if i == 0 else 1,
                padding=kernel // 2,
                bias=not imagenet,
            )
            self.add_module(f"bn{i + 1}", batch_norm(widths[i]))
            self.add_module(f"relu{i + 1}", activation())
            self.add_module(f"conv{i + 1}", conv)
        self.drop = nn.Dropout(dropout)
        self.short = ""
        if stride != 1 or inputs != outputs:
            self.short = "downsample" if imagenet else "shortcut"
            conv = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=not imagenet)
            self.add_module(self.short, Sequential(conv, batch_norm(outputs)) if imagenet else conv)

    def forward(self, x: Tensor) -> Tensor:
        a = self._stage(x, 1)
        y = per_step(self.get_submodule("conv1"), a)
        for i in range(2, self.count + 1):
            y = self._stage(y, i)
            if i == self.count:
                y = per_step(self.drop, y) if self.training and self.drop.p else y
            y = per_step(self.get_submodule(f"conv{i}"), y)
        return y + self._shortcut(a)

    def _stage(self, x: Tensor, i: int) -> Tensor:
        return self.get_submodule(f"relu{i}")(self.get_submodule(f"bn{i}")(x))

    def _shortcut(self, a: Tensor) -> Tensor:
        if not self.short:
            return a
        shortcut = self.get_submodule(self.short)
        return shortcut(a) if isinstance(shortcut, Sequential) else per_step(shortcut, a)


def stages(
    network: DsrNetwork, inputs: int, activation: Activation, imagenet: bool
) -> tuple[list[Sequential], int]:
    """`layer1`, `layer2`, ..., each half the size and twice the width of the one before; and the
    width of the last."""
    counts = network.blocks or _STAGES[network.name[-2:]]
    bottleneck = network.name.endswith("50")
    layers = []
    for stage, count in enumerate(counts):
        outputs = network.channels * 2**stage * (4 if bottleneck else 1)
        blocks = []
        for i in range(count):
            blocks.append(
                Block(
                    inputs,
                    outputs,
                    stride=2 if stage > 0 and i == 0 else 1,
                    activation=activation,
                    dropout=network.dropout or 0.0,
                    bottleneck=bottleneck,
                    imagenet=imagenet,
                )
            )
            inputs = outputs
        layers.append(Sequential(*blocks))
    return layers, inputs


class SmallResNet(nn.Module):
    """The network for small images: `[T, B, C, H, W]` -> the last layer's spikes `[T, B, classes]`.

    Sides must be a multiple of 4 * 2^(stages - 1): 32 with the published four stages. ConfigError
    otherwise.
    """

    def __init__(self, network: DsrNetwork, data: DataSpec, activation: Activation) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(data.shape[0], network.channels, 3, padding=1, bias=False)
        layers, width = stages(network, network.channels, activation, imagenet=False)
        self.layers = [f"layer{i + 1}" for i in range(len(layers))]
        for name, layer in zip(self.layers, layers, strict=True):
            self.add_module(name, layer)
        shrink = 2 ** (len(layers) - 1)
        sides = [side // shrink // _POOL for side in data.shape[1:]]
        if any(side % (shrink * _POOL) for side in data.shape[1:]):
            raise ConfigError(
                f"network {network.name!r} with {len(layers)} stages takes sides that are a "
                f"multiple of {shrink * _POOL}, but samples of {data.name!r} are "
                f"{data.shape[1]}x{data.shape[2]}: give network.blocks another number of stages"
            )
        self.bn1 = batch_norm(width)
        self.relu1 = activation()
        self.relu2 = activation()
        self.drop = nn.Dropout(network.dropout or 0.0)
        self.linear = nn.Linear(width * sides[0] * sides[1], data.class_count)
        self.bn2 = batch_norm(data.class_count)
        self.relu3 = activation()
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        x = per_step(self.conv1, x)
        for name in self.layers:
            x = self.get_submodule(name)(x)
        x = self.relu1(self.bn1(x))
        x = self.relu2(per_step(nn.AvgPool2d(_POOL), x)).flatten(2)
        return self.relu3(self.bn2(per_step(self._head, x)))

    def _head(self, x: Tensor) -> Tensor:
        return self.linear(self.drop(x))

    @torch.no_grad()
    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.linear.bias)


class ImageNetResNet(nn.Module):
    """The network for ImageNet: `[T, B, C, H, W]` -> the last layer's output `[T, B, classes]`.

    With ReLU it is the ANN of the hybrid pipeline; the names of both agree but for thresholds.
    """

    def __init__(self, network: DsrNetwork, data: DataSpec, activation: Activation) -> None:
        super().__init__()
        channels = network.channels
        self.conv1 = nn.Conv2d(data.shape[0], channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = batch_norm(channels)
        self.relu1 = activation()
        self.pool = nn.AvgPool2d(3, stride=2, padding=1)
        layers, width = stages(network, channels, activation, imagenet=True)
        self.layers = [f"layer{i + 1}" for i in range(len(layers))]
        for name, layer in zip(self.layers, layers, strict=True):
            self.add_module(name, layer)
        self.bn2 = batch_norm(width)
        self.relu2 = activation()
        self.relu3 = activation()
        self.fc = nn.Linear(width, data.class_count)
        self.bn3 = batch_norm(data.class_count)
        self.relu4 = activation()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, std=(2 / fan) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(per_step(self.conv1, x)))
        x = per_step(self.pool, x)
        for name in self.layers:
            x = self.get_submodule(name)(x)
        x = self.relu2(self.bn2(x))
        x = self.relu3(x.mean((-2, -1)))
        return self.relu4(self.bn3(per_step(self.fc, x)))
