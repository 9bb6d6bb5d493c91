"""spikeloom: deep spiking neural networks in PyTorch.

    import spikeloom as sl
    neuron = sl.PLIF(tau=2.0)
    spikes = neuron(x)              # x [T, B, ...] -> spikes [T, B, ...]

Names are imported when they are first used, so that the command line starts without loading torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from spikeloom import nn as nn
    from spikeloom.compiler import explain as explain
    from spikeloom.neurons import GLIF as GLIF
    from spikeloom.neurons import IF as IF
    from spikeloom.neurons import LIF as LIF
    from spikeloom.neurons import PLIF as PLIF
    from spikeloom.neurons import AdLIF as AdLIF
    from spikeloom.neurons import ATan as ATan
    from spikeloom.neurons import CuLIF as CuLIF
    from spikeloom.neurons import FastSigmoid as FastSigmoid
    from spikeloom.neurons import FusedGLIF as FusedGLIF
    from spikeloom.neurons import Gaussian as Gaussian
    from spikeloom.neurons import Neuron as Neuron
    from spikeloom.neurons import PCuLIF as PCuLIF
    from spikeloom.neurons import RateLIF as RateLIF
    from spikeloom.neurons import Rectangle as Rectangle
    from spikeloom.neurons import ScaledIF as ScaledIF
    from spikeloom.neurons import ScaledLIF as ScaledLIF
    from spikeloom.neurons import Sigmoid as Sigmoid
    from spikeloom.neurons import Surrogate as Surrogate
    from spikeloom.neurons import Triangle as Triangle

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
    "ScaledIF",
    "ScaledLIF",
    "Sigmoid",
    "Surrogate",
    "Triangle",
    "__version__",
    "explain",
    "nn",
]


def __getattr__(name: str) -> Any:
    if name == "nn":
        return importlib.import_module("spikeloom.nn")
    if name not in __all__:
        raise AttributeError(f"module 'spikeloom' has no attribute {name!r}")
    home = "spikeloom.compiler" if name == "explain" else "spikeloom.neurons"
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
