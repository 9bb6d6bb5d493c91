"""Neurons: one file per family, each a single time step.

What is imported here is public, also as `spikeloom.<name>`.
"""

from spikeloom.neurons.adaptive import AdLIF as AdLIF
from spikeloom.neurons.current import CuLIF as CuLIF
from spikeloom.neurons.current import PCuLIF as PCuLIF
from spikeloom.neurons.gated import GLIF as GLIF
from spikeloom.neurons.gated import FusedGLIF as FusedGLIF
from spikeloom.neurons.leaky import IF as IF
from spikeloom.neurons.leaky import LI as LI
from spikeloom.neurons.leaky import LIF as LIF
from spikeloom.neurons.leaky import PLIF as PLIF
from spikeloom.neurons.neuron import Neuron as Neuron
from spikeloom.neurons.neuron import Response as Response
from spikeloom.neurons.neuron import State as State
from spikeloom.neurons.rate import RateLIF as RateLIF
from spikeloom.neurons.scaled import Scaled as Scaled
from spikeloom.neurons.scaled import ScaledIF as ScaledIF
from spikeloom.neurons.scaled import ScaledLIF as ScaledLIF
from spikeloom.neurons.surrogate import ATan as ATan
from spikeloom.neurons.surrogate import FastSigmoid as FastSigmoid
from spikeloom.neurons.surrogate import Gaussian as Gaussian
from spikeloom.neurons.surrogate import Rectangle as Rectangle
from spikeloom.neurons.surrogate import Sigmoid as Sigmoid
from spikeloom.neurons.surrogate import Surrogate as Surrogate
from spikeloom.neurons.surrogate import Triangle as Triangle


def __getattr__(name: str) -> list[str]:
    if name == "__all__":
        return sorted(key for key, value in globals().items() if isinstance(value, type))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
