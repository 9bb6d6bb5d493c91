"""The step compiler: a neuron's one time step becomes fused multi-step kernels."""

from spikeloom.compiler.dispatch import Backend, available_backends
from spikeloom.compiler.explanation import Explanation, explain
from spikeloom.compiler.front.step import Step

__all__ = ["Backend", "Explanation", "Step", "available_backends", "explain"]
