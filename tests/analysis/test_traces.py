"""Rasters and membrane potentials of one sample."""

import pytest
import torch
from torch import nn

from spikeloom.analysis.traces import trace
from spikeloom.neurons import IF, PLIF, CuLIF, Neuron
from spikeloom.nn import Recurrent, Sequential


def test_traces_equal_the_forward_pass_of_that_sample():
    torch.manual_seed(0)
    network = Sequential(nn.Linear(6, 5), PLIF(tau=2.0), nn.Linear(5, 4), IF(v_threshold=0.25))
    inputs = torch.randn(7, 3, 6) * 3
    spikes = network(inputs)
    first, last = trace(network, inputs, sample=1)
    assert (first.layer, last.layer) == ("1", "3")
    assert torch.equal(last.spikes, spikes[:, 1] != 0)
    assert last.spikes.any() and not last.spikes.all()
    assert (last.shape, last.threshold) == ((4,), 0.25)
    assert last.rate == last.spikes.double().mean()


def test_potentials_before_and_after_reset_obey_the_step():
    torch.manual_seed(0)
    network = Sequential(nn.Linear(6, 5), PLIF(tau=2.0))
    (layer,) = trace(network, torch.randn(9, 2, 6) * 3)
    h, v = layer.potentials["h"], layer.potentials["v"]
    assert torch.equal(layer.spikes, h >= 1.0)
    assert torch.equal(v, torch.where(layer.spikes, torch.zeros(()), h))


def test_a_neuron_that_is_given_a_state_is_traced_from_that_state():
    class Carry(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = IF()

        def forward(self, x):
            return self.neuron(x, (torch.full_like(x[0], 0.75),))[0]

    (layer,) = trace(Carry(), torch.full((1, 2, 3), 0.125))
    assert layer.potentials["h"].tolist() == [[0.875] * 3]


def test_a_neuron_without_threshold_or_observed_values_still_has_its_states():
    class Adder(Neuron):
        def step(self, x, v):
            return self.surrogate(v + x - 2.0), v + x

    (layer,) = trace(Adder(), torch.ones(3, 1, 2, 2))
    assert layer.threshold is None
    assert layer.shape == (2, 2)
    assert layer.potentials["v"].tolist() == [[1.0] * 4, [2.0] * 4, [3.0] * 4]
    assert layer.spikes.tolist() == [[False] * 4, [True] * 4, [True] * 4]


@pytest.mark.parametrize("into", ["input", "i"])
def test_a_recurrent_layer_is_traced_from_its_first_step_to_its_last(into):
    torch.manual_seed(2)
    network = Sequential(
        nn.Linear(6, 5), Recurrent(CuLIF(2.0, 2.0, v_threshold=0.3, delay=2), 5, into=into)
    )
    inputs = torch.rand(9, 3, 6) * 4
    spikes = network(inputs)
    (layer,) = trace(network, inputs, sample=2)
    assert layer.spikes.any() and torch.equal(layer.spikes, spikes[:, 2] != 0)
    assert torch.equal(layer.spikes, layer.potentials["h"] > 0.3)
