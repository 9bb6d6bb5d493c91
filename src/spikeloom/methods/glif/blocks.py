"""The residual blocks of GLIF, on `[T, B, C, H, W]`.

Modules are named as in the authors' code (`body`, `downsample`, `lif`; `conv`), so that their
weights load. No convolution has a bias. tdBN(a) is a norm with alpha = a; a2 = 1 / sqrt(2) where
two norms meet.
"""

import math
from typing import Any

from torch import Tensor, nn

from spikeloom.methods.glif.config import GlifNetwork
from spikeloom.neurons import GLIF, LIF, PLIF, ATan, FusedGLIF, Neuron, Rectangle, Sigmoid, Triangle
from spikeloom.nn import BatchNorm, Sequential, TdBatchNorm

MEETING = math.sqrt(0.5)
"""alpha of the two norms whose outputs are added."""

VANILLA_THRESHOLD = 0.99999
"""The threshold of the fixed LIF of the CIFAR10-DVS code."""


class Parts:
    """The neurons and norms that `network` asks for."""

    def __init__(self, network: GlifNetwork) -> None:
        self.network = network

    def norm(self, channels: int, alpha: float = 1.0) -> nn.Module:
        if self.network.norm == "bn":
            return BatchNorm(channels, statistics="folded")
        return TdBatchNorm(channels, alpha=alpha)

    def neuron(self, channels: int) -> Neuron:
        config = self.network
        if config.neuron == "lif":
            return LIF(
                tau=2.0,
                v_threshold=VANILLA_THRESHOLD,
                decay_input=False,
                surrogate=Rectangle(strict=True),
            )
        if config.neuron == "plif":
            return PLIF(tau=2.0, surrogate=Sigmoid(alpha=4.0))
        surrogates = {
            "rectangle": Rectangle(strict=True),
            "triangle": Triangle(strict=True),
            "atan": ATan(alpha=2.0, strict=True),
        }
        membrane: dict[str, Any] = {
            "tau": config.tau,
            "threshold": config.threshold,
            "leak": config.initial_leak,
            "conductance": config.conductance,
            "surrogate": surrogates[config.surrogate],
        }
        if config.neuron == "glif-f":
            return FusedGLIF(channels, config.T, **membrane)
        gate = config.gate
        if gate != "random" and config.per == "layer" and config.gate_sign == "code":
            gate = (1 - gate[0], 1 - gate[1], 1 - gate[2])
        return GLIF(
            channels if config.per == "channel" else None,
            config.T,
            gates=config.gates.replace("-", "_"),  # type: ignore[arg-type]
            gate=gate,
            time_wise=config.time_wise,
            learn_membrane=config.learn_membrane,
            **membrane,
        )

    def conv3x3(self, inputs: int, outputs: int, stride: int = 1, alpha: float = 1.0) -> Sequential:
        conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        return Sequential(conv, self.norm(outputs, alpha))

    def conv1x1(self, inputs: int, outputs: int, stride: int = 1, alpha: float = 1.0) -> Sequential:
        conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        return Sequential(conv, self.norm(outputs, alpha))

    def shortcut(self, inputs: int, outputs: int, stride: int) -> Sequential:
        """tdBN(a2) alone where the shape stays: the identity path is normalised too; else
        conv1x1 - tdBN(a2)."""
        if inputs == outputs and stride == 1:
            return Sequential(self.norm(outputs, MEETING))
        return Sequential(self.conv1x1(inputs, outputs, stride, MEETING))


class BasicBlock(nn.Module):
    """N(conv3x3(stride) - tdBN - N - conv3x3 - tdBN(a2)  +  shortcut)."""

    time_first = True

    def __init__(self, parts: Parts, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = Sequential(
            parts.conv3x3(inputs, outputs, stride),
            parts.neuron(outputs),
            parts.conv3x3(outputs, outputs, alpha=MEETING),
        )
        self.downsample = parts.shortcut(inputs, outputs, stride)
        self.lif = parts.neuron(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.lif(self.body(x) + self.downsample(x))


class MembraneBlock(nn.Module):
    """N - conv3x3(stride) - tdBN - N - conv3x3 - tdBN(a2)  +  shortcut of the raw input ("MS").

    No neuron after the sum: blocks hand on real values.
    """

    time_first = True

    def __init__(self, parts: Parts, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = Sequential(
            parts.neuron(inputs),
            parts.conv3x3(inputs, outputs, stride),
            parts.neuron(outputs),
            parts.conv3x3(outputs, outputs, alpha=MEETING),
        )
        self.downsample = parts.shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.downsample(x)


class SewBlock(nn.Module):
    """Spike-element-wise block: two units conv3x3 - norm - N, their output s joined with the input.

        add  s + x          and  s x          iand  x (1 - s)

    No neuron after; with "add" values grow beyond 1. `middle`: width between the units.
    """

    time_first = True

    def __init__(self, parts: Parts, channels: int, middle: int) -> None:
        super().__init__()
        self.connect = parts.network.connect
        self.conv = Sequential(
            Sequential(parts.conv3x3(channels, middle), parts.neuron(middle)),
            Sequential(parts.conv3x3(middle, channels), parts.neuron(channels)),
        )

    def forward(self, x: Tensor) -> Tensor:
        s = self.conv(x)
        if self.connect == "add":
            return s + x
        return s * x if self.connect == "and" else x * (1 - s)
