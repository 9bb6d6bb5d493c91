"""Neurons: one file per family, each a single time step."""

from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF, PLIF
from spikeloom.neurons.neuron import Neuron, Run, State
from spikeloom.neurons.surrogate import (
    ATan,
    FastSigmoid,
from spikeloom.neurons.rate import RateLIF
from spikeloom.neurons.scaled import Scaled, ScaledIF, ScaledLIF
    Gaussian,
    Rectangle,
    Sigmoid,
    Surrogate,
    Triangle,
)

__all__ = [
    "IF",
    "LIF",
    "PLIF",
    "ATan",
    "FastSigmoid",
    "Gaussian",
    "Neuron",
    "Rectangle",
    "Run",
    "Sigmoid",
    "State",
    "Surrogate",
    "Triangle",
]
    "PCuLIF",
    "RateLIF",
