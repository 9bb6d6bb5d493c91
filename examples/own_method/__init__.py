"""A sixth method in one file: LIF neurons that learn their leak per channel, read out by potential.

A network of spiking layers ends in an integrator that never fires; the mean of its potential over
time is the score of a class. `python examples/own_method` trains the recipe in `recipes/`.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from spikeloom.config.section import Section
from spikeloom.data import DataSpec
from spikeloom.methods.base import Method
from spikeloom.neurons import PLIF
from spikeloom.nn import Classifier, Output, Sequential


class OwnNetwork(Section):
    """Linear layers with a leak per channel."""

    T: int = Field(default=4, ge=1, description="time steps that an image is shown")
    hidden: int = Field(default=128, ge=1, description="neurons of each of two layers")
    tau: float = Field(default=2.0, gt=1, description="initial membrane time constant, time steps")


class OwnClassifier(Classifier):
    """score_c = mean over t of the potential u_t = u_{t-1} + current_t; loss: cross-entropy."""

    def __init__(self, network: OwnNetwork, data: DataSpec) -> None:
        super().__init__()
        self.time_steps = network.T
        width = network.hidden
        self.layers = Sequential(
            nn.Flatten(),
            nn.Linear(torch.Size(data.shape).numel(), width),
            PLIF(network.tau, shape=(width,)),
            nn.Linear(width, width),
            PLIF(network.tau, shape=(width,)),
            nn.Linear(width, data.class_count),
        )

    def forward(self, inputs: Tensor) -> Output:
        current = inputs.expand(self.time_steps, *inputs.shape)
        return Output(scores=self.layers(current).cumsum(0).mean(0))


def build(network: OwnNetwork, data: DataSpec) -> OwnClassifier:
    return OwnClassifier(network, data)


method = Method(
    name="own_method",
    title="Leak per channel, read out by potential (an example)",
    network=OwnNetwork,
    builder=f"{__name__}:build",
)
