"""Layers that know about time: `[T, B, ...]`, time first."""

from spikeloom.nn.batchnorm import BatchNorm
from spikeloom.nn.classifier import Classifier, Output
from spikeloom.nn.coding import StaticCoding
from spikeloom.nn.dropout import Dropout
from spikeloom.nn.fold import Steps, is_constant, is_time_aware, per_step, steps
from spikeloom.nn.sequential import Sequential
from spikeloom.nn.voting import Voting

__all__ = [
    "BatchNorm",
    "Classifier",
    "Dropout",
    "Output",
    "Sequential",
    "StaticCoding",
    "Steps",
    "Voting",
    "is_constant",
    "is_time_aware",
    "per_step",
    "steps",
]
