"""A network for series: values `[T, B, C]`, or counts of events of C channels."""

from itertools import pairwise

import torch
from torch import Tensor

from spikeloom.data.base import DataSpec
from spikeloom.errors import ConfigError
from spikeloom.methods.own.config import SeriesNetwork
from spikeloom.neurons import LI, LIF, PLIF
from spikeloom.nn import Classifier, Dropout, Output, Sequential
from spikeloom.nn.state import in_pieces


def build(network: SeriesNetwork, data: DataSpec) -> "SeriesClassifier":
    """The network for series, or for the channels of a cochlea."""
    if len(data.shape) != 1 or data.kind != "events":
        raise ConfigError(
            f"method own takes series, and samples of {data.name!r} are {list(data.shape)}: use "
            "data=arrays with series, or own/images and own/events"
        )
    return SeriesClassifier(network, data)


class SeriesClassifier(Classifier):
    """Linear, BatchNorm and LIF for each hidden width; then Linear and a leaky integrator.

    The score of a class, or the value of a target, is the mean over time of its integrator's
    potential.
    """

    def __init__(self, network: SeriesNetwork, data: DataSpec) -> None:
        super().__init__()
        self.time_steps = network.T
        layers: list[torch.nn.Module] = []
        for inputs, width in pairwise((data.shape[0], *network.hidden)):
            neuron = PLIF(network.tau) if network.learn_tau else LIF(network.tau)
            linear = torch.nn.Linear(inputs, width, bias=False)
            layers += [linear, torch.nn.BatchNorm1d(width), neuron, Dropout(network.dropout)]
        layers += [torch.nn.Linear(network.hidden[-1], data.class_count), LI(network.tau_readout)]
        self.layers = Sequential(*layers)

    read_by = "mean"
    course_names = ("potentials",)

    def current(self, inputs: Tensor) -> Tensor:
        """`inputs` `[T, B, C]`."""
        if inputs.dim() != 3 or not (in_pieces() or len(inputs) == self.time_steps):
            raise ValueError(
                f"input of shape {list(inputs.shape)}: expected series [T, B, C] with "
                f"T={self.time_steps}"
            )
        return inputs

    def course(self, current: Tensor) -> tuple[Tensor, ...]:
        """The potentials of the integrators."""
        return (self.layers(current),)

    def read(self, *course: Tensor) -> Output:
        (potentials,) = course
        return Output(scores=potentials.mean(0), votes=potentials)
