"""Neurons: one file per family, each a single time step."""

from spikeloom.neurons.adaptive import AdLIF
from spikeloom.neurons.current import CuLIF, PCuLIF
from spikeloom.neurons.gated import GLIF, FusedGLIF
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF, PLIF
from spikeloom.neurons.neuron import Neuron, Run, State
from spikeloom.neurons.rate import RateLIF
from spikeloom.neurons.scaled import Scaled, ScaledIF, ScaledLIF
from spikeloom.neurons.surrogate import (
    ATan,
    FastSigmoid,
    Gaussian,
    Rectangle,
    Sigmoid,
    Surrogate,
    Triangle,
)

__all__ = [
    "GLIF",
    "IF",
    "LIF",
    "PLIF",
    "ATan",
    "AdLIF",
    "CuLIF",
    "FastSigmoid",
    "FusedGLIF",
    "Gaussian",
    "Neuron",
    "PCuLIF",
    "RateLIF",
    "Rectangle",
    "Run",
    "Scaled",
    "ScaledIF",
    "ScaledLIF",
    "Sigmoid",
    "State",
    "Surrogate",
    "Triangle",
]
