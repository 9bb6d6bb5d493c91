"""VGG networks with average pooling, on `[T, B, C, H, W]`.

    stages of [conv3x3 BN N D], each closed by AvgPool(2); AdaptiveAvgPool(7) flatten linear BN N

N is a layer of neurons, BN normalises over time and batch together, D is dropout per step. A map
smaller than 7x7 is replicated by the adaptive pooling: from the 1x1 that 48x48 frames end in, every
value 49 times, as published. Modules are named as in the authors' code.
"""

from collections import OrderedDict

from torch import nn

from spikeloom.data.base import DataSpec
from spikeloom.methods.base import halved
from spikeloom.methods.dsr.config import DsrNetwork
from spikeloom.methods.dsr.resnet import Activation, batch_norm
from spikeloom.methods.shared import initialise
from spikeloom.nn import Sequential

_CONVOLUTIONS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
_GRID = 7
_WIDEST = 8
"""Widths double from stage to stage up to this multiple of the first: 64, 128, 256, 512, 512."""


def vgg(network: DsrNetwork, data: DataSpec, activation: Activation) -> Sequential:
    """`[T, B, C, H, W]` -> the last layer's spikes `[T, B, classes]`.

    ConfigError if samples are too small to be halved once per stage.
    """
    counts = network.blocks or _CONVOLUTIONS[network.name]
    halved(network.name, data, len(counts), "use larger samples or fewer stages in network.blocks")
    dropout = 0.1 if network.dropout is None else network.dropout
    inputs = data.shape[0]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, count in enumerate(counts):
        outputs = network.channels * min(2**i, _WIDEST)
        units: list[nn.Module] = []
        for _ in range(count):
            conv = nn.Conv2d(inputs, outputs, 3, padding=1)
            units += [conv, batch_norm(outputs), activation(), nn.Dropout(dropout)]
            inputs = outputs
        layers[f"layer{i + 1}"] = Sequential(*units, nn.AvgPool2d(2))
    layers["grid"] = nn.AdaptiveAvgPool2d(_GRID)
    layers["classifier"] = Sequential(
        nn.Flatten(),
        nn.Linear(inputs * _GRID**2, data.class_count),
        batch_norm(data.class_count),
        activation(),
    )
    net = Sequential(layers)
    initialise(net)
    return net
