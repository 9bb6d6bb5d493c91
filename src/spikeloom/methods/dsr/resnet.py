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

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

from spikeloom.data.base import DataSpec
from spikeloom.errors import ConfigError
from spikeloom.methods.dsr.config import DsrNetwork
from spikeloom.nn import BatchNorm, Sequential, is_time_aware, per_step

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
        self.rest = ["conv1"]
        """The layers behind the first spikes, in their order."""
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
            if i > 0:
                self.rest += [f"bn{i + 1}", f"relu{i + 1}", f"conv{i + 1}"]
        self.drop = nn.Dropout(dropout)
        self.rest.insert(-1, "drop")
        self.short: list[str] = []
        if stride != 1 or inputs != outputs:
            name = "downsample" if imagenet else "shortcut"
            conv = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=not imagenet)
            self.add_module(name, Sequential(conv, batch_norm(outputs)) if imagenet else conv)
            self.short = [name]

    def forward(self, x: Tensor) -> Tensor:
        a = self._through(x, "bn1", "relu1")
        return self._through(a, *self.rest) + self._through(a, *self.short)

    def _through(self, x: Tensor, *names: str) -> Tensor:
        for name in names:
            layer = self.get_submodule(name)
            x = layer(x) if is_time_aware(layer) else per_step(layer, x)
        return x


def stages(
    network: DsrNetwork, inputs: int, activation: Activation, imagenet: bool
) -> tuple[dict[str, nn.Module], int]:
    """`layer1`, `layer2`, ..., each half the size and twice the width of the one before; and the
    width of the last."""
    counts = network.blocks or _STAGES[network.name[-2:]]
    bottleneck = network.name.endswith("50")
    layers: dict[str, nn.Module] = {}
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
        layers[f"layer{stage + 1}"] = Sequential(*blocks)
    return layers, inputs


def small_resnet(network: DsrNetwork, data: DataSpec, activation: Activation) -> Sequential:
    """The network for small images: `[T, B, C, H, W]` -> the last layer's spikes `[T, B, classes]`.

    Sides must be a multiple of 4 * 2^(stages - 1): 32 with the published four stages. ConfigError
    otherwise.
    """
    conv = nn.Conv2d(data.shape[0], network.channels, 3, padding=1, bias=False)
    layers, width = stages(network, network.channels, activation, imagenet=False)
    shrunk = _POOL * 2 ** (len(layers) - 1)
    if any(side % shrunk for side in data.shape[1:]):
        raise ConfigError(
            f"network {network.name!r} with {len(layers)} stages takes sides that are a "
            f"multiple of {shrunk}, but samples of {data.name!r} are "
            f"{data.shape[1]}x{data.shape[2]}: give network.blocks another number of stages"
        )
    positions = (data.shape[1] // shrunk) * (data.shape[2] // shrunk)
    linear = nn.Linear(width * positions, data.class_count)
    nn.init.zeros_(linear.bias)
    net = Sequential(
        OrderedDict(
            conv1=conv,
            **layers,
            bn1=batch_norm(width),
            relu1=activation(),
            pool=nn.AvgPool2d(_POOL),
            relu2=activation(),
            flatten=nn.Flatten(),
            drop=nn.Dropout(network.dropout or 0.0),
            linear=linear,
            bn2=batch_norm(data.class_count),
            relu3=activation(),
        )
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


class _Mean(nn.Module):
    """Over all positions, `[T, B, C, H, W]` -> `[T, B, C]`."""

    time_first = True

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((-2, -1))


def imagenet_resnet(network: DsrNetwork, data: DataSpec, activation: Activation) -> Sequential:
    """The network for ImageNet: `[T, B, C, H, W]` -> the last layer's output `[T, B, classes]`.

    With ReLU it is the ANN of the hybrid pipeline; the names of both agree but for thresholds.
    """
    channels = network.channels
    conv = nn.Conv2d(data.shape[0], channels, 7, stride=2, padding=3, bias=False)
    layers, width = stages(network, channels, activation, imagenet=True)
    net = Sequential(
        OrderedDict(
            conv1=conv,
            bn1=batch_norm(channels),
            relu1=activation(),
            pool=nn.AvgPool2d(3, stride=2, padding=1),
            **layers,
            bn2=batch_norm(width),
            relu2=activation(),
            mean=_Mean(),
            relu3=activation(),
            fc=nn.Linear(width, data.class_count),
            bn3=batch_norm(data.class_count),
            relu4=activation(),
        )
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, std=(2 / fan) ** 0.5)
    return net
