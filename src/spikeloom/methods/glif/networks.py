"""The networks of GLIF, as `Classifier`s.

    images   the image at all T steps; stem, blocks, global average pooling, linear layers per step
    frames   1x1 unit and spike-element-wise blocks, flattened, one linear layer

The scores are the logits averaged over T, the loss is their cross entropy. Modules are named as in
the authors' code, so that their weights load.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from spikeloom.data.base import DataSpec
from spikeloom.methods.base import check_kind, halved
from spikeloom.methods.compact import WIDTH, CompactBody, CompactNetwork
from spikeloom.methods.glif.blocks import BasicBlock, MembraneBlock, Parts, SewBlock
from spikeloom.methods.glif.config import EVENT_NETWORKS, IMAGE_NETWORKS, GlifNetwork
from spikeloom.methods.shared import LogitClassifier, frames, initialise, shown
from spikeloom.neurons.gated import Gated
from spikeloom.nn import Output, Sequential

# Blocks per stage, channels of the first stage, strides of the first block of each stage, stem.
_RESNETS: dict[str, tuple[tuple[int, ...], int, tuple[int, ...], int]] = {
    "resnet18": ((2, 2, 2, 2), 64, (1, 1, 2, 2), 3),
    "resnet19": ((3, 3, 2), 128, (1, 2, 2), 3),
    "resnet34": ((3, 4, 6, 3), 64, (2, 2, 2, 2), 7),
    "resnet18ms": ((2, 2, 2, 2), 64, (2, 2, 2, 2), 7),
    "resnet34ms": ((3, 4, 6, 3), 64, (2, 2, 2, 2), 7),
}
_MANY_CLASSES = 50
_HIDDEN = 256


def build(network: GlifNetwork, data: DataSpec) -> "GlifClassifier":
    """The network that `network` describes, for samples of `data`.

    Raises `ConfigError` if the two do not fit: frames for an image network or the reverse, or
    samples too small.
    """
    check_kind(network.name, data, IMAGE_NETWORKS, EVENT_NETWORKS)
    if network.name in _RESNETS:
        classifier: GlifClassifier = ResNet(network, data)
    else:
        kinds = {"cifarnet": CifarNet, "compact": CompactNet}
        classifier = kinds.get(network.name, SewNet)(network, data)
    # with the channel last in memory torch pools faster on a CPU
    return classifier.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


class GlifClassifier(LogitClassifier):
    """What the networks share: input, loss, and the optimizer's parameter groups.

        loss = mean over the batch of the cross entropy of the logits averaged over T

    Groups, in this order: convolutions, linear layers, norms, with the recipe's weight decay;
    membrane parameters, without; gates, without, and at `gate_lr` times the learning rate.
    """

    def __init__(self, network: GlifNetwork) -> None:
        super().__init__()
        self.time_steps = network.T
        self.gate_lr = network.gate_lr
        self.label_smoothing = network.label_smoothing

    def current(self, inputs: Tensor) -> Tensor:
        """`inputs`: images `[B, C, H, W]`; the stem up to its first neuron runs once for all T."""
        return shown(inputs, self.time_steps)

    def loss(self, output: Output, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(
            output.scores, labels, label_smoothing=self.label_smoothing
        )

    def parameter_groups(self) -> Iterator[dict[str, object]]:
        others: list[nn.Parameter] = []
        membrane: list[nn.Parameter] = []
        gates: list[nn.Parameter] = []
        for module in self.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if not parameter.requires_grad:
                    continue
                kind = gates if name in ("alpha", "beta", "gamma") else membrane
                (kind if isinstance(module, Gated) else others).append(parameter)
        apart: dict[str, object] = {"weight_decay": 0.0}
        groups = ((others, {}), (membrane, apart), (gates, apart | {"lr_scale": self.gate_lr}))
        for parameters, options in groups:
            if parameters:
                yield {"params": parameters, **options}


class ResNet(GlifClassifier):
    """ResNet-18 ("stand18"), ResNet-19, ResNet-34, and the MS nets: stem, residual blocks, global
    average pooling of each step, linear layers.

    `head` "auto": one linear layer for more than 50 classes, else two with 256 values between them
    and nothing else; layer-wise ResNet-18 and nets of fused neurons have one, as published.
    """

    def __init__(self, network: GlifNetwork, data: DataSpec) -> None:
        super().__init__(network)
        parts = Parts(network)
        blocks, channels, strides, kernel = _RESNETS[network.name]
        width = network.channels or channels
        # The ImageNet stem has stride 2, padding 1 (not 3), and no pooling: 224 -> 110.
        stride = 1 if kernel == 3 else 2
        stem = nn.Conv2d(data.shape[0], width, kernel, stride, padding=1, bias=False)
        self.conv1 = Sequential(Sequential(stem, parts.norm(width)), parts.neuron(width))
        block = MembraneBlock if network.name.endswith("ms") else BasicBlock
        layers: list[nn.Module] = []
        inputs = width
        for stage, (count, stride) in enumerate(zip(blocks, strides, strict=True)):
            for i in range(count):
                outputs = width * 2**stage
                layers.append(block(parts, inputs, outputs, stride if i == 0 else 1))
                inputs = outputs
        self.features = Sequential(*layers)
        self.lastave = Sequential(*_head(network, inputs, data.class_count))
        initialise(self)

    def course(self, current: Tensor) -> tuple[Tensor, ...]:
        features = self.features(self.conv1(current))
        return (self.lastave(features.mean((3, 4))),)


class CifarNet(GlifClassifier):
    """[conv3x3 - norm - N] of 128, 256, AvgPool2, 512, AvgPool2, 1024, 512 channels; three linear
    layers with nothing between them."""

    def __init__(self, network: GlifNetwork, data: DataSpec) -> None:
        super().__init__(network)
        parts = Parts(network)
        height, width = halved(network.name, data, 2, "use samples of 4x4 or more")
        unit = network.channels or 128
        layers: list[nn.Module] = []
        inputs = data.shape[0]
        for factor, pooled in ((1, False), (2, True), (4, True), (8, False), (4, False)):
            outputs = unit * factor
            layers += [parts.conv3x3(inputs, outputs), parts.neuron(outputs)]
            layers += [nn.AvgPool2d(2)] * pooled
            inputs = outputs
        self.features = Sequential(*layers)
        self.lastave = Sequential(
            nn.Flatten(),
            nn.Linear(inputs * height * width, unit * 8, bias=False),
            nn.Linear(unit * 8, unit * 4, bias=False),
            nn.Linear(unit * 4, data.class_count, bias=False),
        )
        initialise(self)

    def course(self, current: Tensor) -> tuple[Tensor, ...]:
        return (self.lastave(self.features(current)),)


class CompactNet(CompactNetwork, GlifClassifier):
    """The small network of `methods.compact`."""

    def __init__(self, network: GlifNetwork, data: DataSpec) -> None:
        super().__init__(network)
        self.network = network
        parts, width = Parts(network), network.channels or WIDTH
        self.body = CompactBody(data, width, norm=parts.norm, neuron=parts.neuron)


class SewNet(GlifClassifier):
    """The networks for CIFAR10-DVS: 1x1 unit, four blocks, 1x1 unit to twice the channels, three
    blocks; one linear layer with bias.

    sew7-wide  48x48; halved (average) after blocks 4, 5, 6, and 7: "7B-wideNet"
    sew7       128x128; halved after every block: maximum with PLIF, else average
    Convolutions and the linear layer start as PyTorch starts them.
    """

    def __init__(self, network: GlifNetwork, data: DataSpec) -> None:
        super().__init__(network)
        self.any_length = network.neuron in ("lif", "plif")
        parts = Parts(network)
        pooled = (3, 4, 5, 6) if network.name == "sew7-wide" else range(7)
        advice = "use larger samples, or network.name = sew7-wide"
        rows, columns = halved(network.name, data, len(pooled), advice)
        width = network.channels or 64
        pool = nn.MaxPool2d if network.neuron == "plif" else nn.AvgPool2d
        layers: list[nn.Module] = []
        inputs = data.shape[0]
        for block in range(7):
            outputs = width if block < 4 else 2 * width
            if outputs != inputs:
                layers.append(Sequential(parts.conv1x1(inputs, outputs), parts.neuron(outputs)))
                inputs = outputs
            layers.append(SewBlock(parts, inputs, inputs))
            layers += [pool(2)] * (block in pooled)
        self.conv = Sequential(*layers)
        self.out = nn.Linear(inputs * rows * columns, data.class_count)

    def current(self, inputs: Tensor) -> Tensor:
        """`inputs`: frames `[T, B, 2, H, W]` of event counts; with LIF or PLIF, which have nothing
        of their own for each step, any number of them."""
        return frames(inputs, None if self.any_length else self.time_steps)

    def course(self, current: Tensor) -> tuple[Tensor, ...]:
        return (self.out(self.conv(current).flatten(2)),)


def _head(network: GlifNetwork, features: int, classes: int) -> list[nn.Module]:
    by_layer = network.per == "layer" and network.name in ("resnet18", "resnet34")
    published = classes > _MANY_CLASSES or network.neuron == "glif-f" or by_layer
    if network.head == "one" or (network.head == "auto" and published):
        return [nn.Linear(features, classes, bias=False)]
    return [nn.Linear(features, _HIDDEN, bias=False), nn.Linear(_HIDDEN, classes, bias=False)]
