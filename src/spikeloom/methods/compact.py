"""A small network for images of about 32x32, trained in hours on a CPU: after no paper of ours.

    once     Whiten 2x2 (fixed), GELU, Conv -> w, Pool, BN
    over T   N  Conv -> w   BN N    Conv -> 4w Pool BN N   Conv -> 4w BN N
                                    Conv -> 4w Pool BN N   Conv -> 4w BN N
    readout  mean over positions, Linear

Conv is 3x3 with padding 1 and no bias, Pool the maximum of 2x2, N a layer of the method's neurons,
BN its norm. The layers and the whitening are those of Jordan's CIFAR-10 speedrun ("94% on CIFAR-10
in 3.29 seconds", 2024), with spikes in place of its GELUs; w = 64 there. `start_from_ann` begins
with the weights of an ANN of these layers.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikeloom.analysis.rates import neuron_layers
from spikeloom.data.base import DataSpec
from spikeloom.data.files import weights as weight_files
from spikeloom.errors import CheckpointError, ConfigError
from spikeloom.methods import shared
from spikeloom.methods.ann import CompactFromAnn
from spikeloom.methods.published import fit
from spikeloom.neurons import Neuron
from spikeloom.nn import Sequential

WIDTH = 64
_SMALLEST = 9  # 2x2 patches of it, halved three times, leave a pixel


class Whitening(nn.Module):
    """A fixed convolution 2x2 to decorrelated channels of both signs, `[B, C, H, W]` ->
    `[B, 8 C, H - 1, W - 1]`. Nothing in it learns: it needs no backward pass.

        W = [E / sqrt(l + eps), -E / sqrt(l + eps)],   E, l: eigenvectors and eigenvalues of the
                                                       covariance of the patches

    The covariance is that of the patches of the first batch of training, taken once; the weights
    are a buffer, saved with the network. In several processes it is the main one's.
    """

    def __init__(self, channels: int, eps: float = 5e-4) -> None:
        super().__init__()
        self.eps = eps
        self.weight: Tensor
        self.register_buffer("weight", torch.zeros(8 * channels, channels, 2, 2))

    def forward(self, images: Tensor) -> Tensor:
        if self.training and not self.weight.any():
            self._measure(images)
        # With the channel last in memory all that follows is faster on a CPU.
        images = images.contiguous(memory_format=torch.channels_last)
        return nn.functional.conv2d(images, self.weight)

    @torch.no_grad()
    def _measure(self, images: Tensor) -> None:
        patches = nn.functional.unfold(images.double(), 2).transpose(1, 2).flatten(0, 1)
        values, vectors = torch.linalg.eigh(torch.cov(patches.T))
        rows = vectors.T / (values.clamp_min(0) + self.eps).sqrt()[:, None]
        weight = torch.cat([rows, -rows]).view(self.weight.shape)
        self.weight.copy_(weight)


def check_images(data: DataSpec) -> None:
    """Raises ConfigError for samples that are not images, or too small."""
    if data.kind != "static" or len(data.shape) != 3 or min(data.shape[1:]) < _SMALLEST:
        raise ConfigError(
            f"network 'compact' takes images of {_SMALLEST}x{_SMALLEST} or more, but samples "
            f"of {data.name!r} have shape {list(data.shape)}: use larger images"
        )


class CompactBody(nn.Module):
    """Images `[B, C, H, W]` and T to logits of each step `[T, B, classes]`.

    Args:
        data: Of images; their size decides nothing, if it is at least 9x9.
        width: Channels of the first convolutions, the later ones have four times as many.
        norm, neuron: Make a norm over time and a layer of neurons for a number of channels.

    Raises ConfigError for samples that are not images, or too small.
    """

    def __init__(
        self,
        data: DataSpec,
        width: int,
        *,
        norm: Callable[[int], nn.Module],
        neuron: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        check_images(data)
        whitening = Whitening(data.shape[0])
        self.stem = Sequential(
            whitening,
            nn.GELU(),
            _conv(len(whitening.weight), width),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(width),
        )
        wide = 4 * width
        layers: list[nn.Module] = [neuron(width)]
        for inputs, outputs, pooled in (
            (width, width, False),
            (width, wide, True),
            (wide, wide, False),
            (wide, wide, True),
            (wide, wide, False),
        ):
            layers += [_conv(inputs, outputs), *[nn.MaxPool2d(2)] * pooled]
            layers += [norm(outputs), neuron(outputs)]
        self.layers = Sequential(*layers)
        self.readout = Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(wide, data.class_count, bias=False)
        )

    def forward(self, images: Tensor, time_steps: int) -> Tensor:
        return self.course(self.current(images, time_steps))

    def current(self, images: Tensor, time_steps: int) -> Tensor:
        """What the first neurons receive, the same at each step."""
        current = self.stem(shared.images(images)[None])
        if current.requires_grad and not torch.compiler.is_compiling():
            # A sum over time comes with the channel first in memory, on which BN is slow.
            last = torch.channels_last
            current.register_hook(lambda g: g[0].contiguous(memory_format=last)[None])
        return current.expand(time_steps, *current.shape[1:])

    def course(self, current: Tensor) -> Tensor:
        """The logits of each step."""
        return self.readout(self.layers(current))


class CompactNetwork:
    """What a `Classifier` with a `body` does with it, for T steps, and where it starts."""

    network: CompactFromAnn
    time_steps: int
    body: CompactBody

    def current(self, inputs: Tensor) -> Tensor:
        """`inputs`: images `[B, C, H, W]`."""
        return self.body.current(inputs, self.time_steps)

    def course(self, current: Tensor) -> tuple[Tensor, ...]:
        return (self.body.course(current),)

    def start(self) -> None:
        """From the ANN, where the recipe names one."""
        if self.network.ann is not None and self.network.thresholds is not None:
            paths = Path(self.network.ann), Path(self.network.thresholds)
            start_from_ann(self.body, self.time_steps, *paths)

    @property
    def starts_from(self) -> str | None:
        """The trained ANN."""
        return self.network.ann


@torch.no_grad()
def start_from_ann(body: CompactBody, time_steps: int, ann: Path, thresholds: Path) -> None:
    """Gives `body` the weights of an ANN with these layers, activations taken for rates of spikes.

        weight, bias of the norm before a layer of neurons   times  2 c / a
        running mean and variance of the norm behind it      over   a, a^2
        weight of the readout                                times  a of the last layer

    a is the activation that `thresholds` (of `spikeloom calibrate`) has for the layer; c, of each
    channel, the smallest constant current that makes a neuron at rest fire in the first step. A
    spike of 1 then stands for the activation a, and is fired from a / 2 on: rounded, not cut off.

    Source: data-based normalisation, Diehl et al., IJCNN 2015; training goes on from there as in
    Rathi et al., "Enabling deep SNNs with hybrid conversion and spike timing dependent
    backpropagation", ICLR 2020.

    Raises CheckpointError for files that are missing, damaged, or of another network.
    """
    path = ann / "weights.safetensors" if ann.is_dir() else ann
    neurons = neuron_layers(body.layers)
    tensors, _ = weight_files.read(path)
    weights = {name.rpartition("body.")[2]: value for name, value in tensors.items()}
    of_neurons = tuple(f"layers.{n}.{key}" for n, m in neurons.items() for key in m.state_dict())
    body.load_state_dict(fit(path, weights, body.state_dict(), optional=of_neurons))
    tensors, _ = weight_files.read(thresholds)
    activations = {name.rpartition("layers.")[2]: float(value) for name, value in tensors.items()}
    if activations.keys() != neurons.keys() or min(activations.values()) <= 0:
        raise CheckpointError(
            f"{thresholds}: expected activations above 0 of {len(neurons)} layers; calibrate the "
            "ANN of dsr/cifar10-compact-ann, or of a recipe with its layers"
        )
    norm: Any = body.stem[-1]
    activation = 1.0
    for name, layer in body.layers.named_children():
        if name in neurons:
            activation = activations[name]
            current = firing_current(neurons[name], norm.weight, time_steps)
            factor = 2 * current / activation
            norm.weight.mul_(factor / getattr(norm, "scale", 1.0))
            norm.bias.mul_(factor)
        elif hasattr(layer, "running_var"):
            norm = layer
            norm.running_mean.div_(activation)
            norm.running_var.div_(activation**2)
    readout: Any = body.readout[-1]
    readout.weight.mul_(activation)


def firing_current(neuron: Neuron, like: Tensor, time_steps: int) -> Tensor:
    """The smallest of the constant currents 0.01, 0.02, ... 16 at which a neuron of each channel
    fires in the first of `time_steps` steps: `[C]`, on the device of `like` `[C]`."""
    currents = torch.arange(1, 1601, device=like.device) / 100
    shape = (time_steps, len(currents), len(like), 1, 1)
    spikes = neuron(currents.view(-1, 1, 1, 1).expand(shape))[0, ..., 0, 0]
    if not spikes[-1].all():
        raise CheckpointError(f"{neuron}: no current up to 16 makes it fire in a step")
    return currents[(spikes != 0).int().argmax(0)]


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    """Starts as the identity of as many channels as there are, the rest as PyTorch starts it."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(conv.weight[: min(inputs, outputs)])
    return conv.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
