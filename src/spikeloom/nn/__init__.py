"""Layers that know about time: `[T, B, ...]`, time first."""

from spikeloom.nn.batchnorm import BatchNorm, TdBatchNorm
from spikeloom.nn.classifier import Classifier, Figure, Output
from spikeloom.nn.delay import Delay, DelayedLinear
from spikeloom.nn.encoders import Latency, Poisson
from spikeloom.nn.fold import Steps, is_constant, is_time_aware, per_step, steps
from spikeloom.nn.layers import Dropout, Readout, StaticCoding, Voting
from spikeloom.nn.recurrent import Recurrent
from spikeloom.nn.sequential import Sequential
from spikeloom.nn.state import initial_state, is_stateful, map_state, stream

__all__ = [
    "BatchNorm",
    "Classifier",
    "Delay",
    "DelayedLinear",
    "Dropout",
    "Figure",
    "Latency",
    "Output",
    "Poisson",
    "Readout",
    "Recurrent",
    "Sequential",
    "StaticCoding",
    "Steps",
    "TdBatchNorm",
    "Voting",
    "initial_state",
    "is_constant",
    "is_stateful",
    "is_time_aware",
    "map_state",
    "per_step",
    "steps",
    "stream",
]
