import pytest
import torch
from torch import nn

from spikeloom.neurons import LIF, CuLIF
from spikeloom.nn import Recurrent, Sequential


def test_spikes_feed_the_next_input():
    torch.manual_seed(0)
    layer = Recurrent(LIF(backend="eager"), 3)
    x = torch.rand(6, 2, 3) * 3
    spikes = layer(x)
    # The same neurons without feedback, given the whole current that the layer felt.
    felt = x.clone()
    felt[1:] += layer.recurrent(spikes[:-1])
    assert 0 < spikes.mean() < 1
    assert torch.equal(layer.neuron(felt), spikes)


def test_feedback_into_a_state_acts_one_step_sooner():
    neuron = CuLIF(2.0, 2.0, v_threshold=0.2, backend="eager")
    x = torch.zeros(8, 1, 1)
    x[0] = 5.0

    def response(into: str) -> torch.Tensor:
        layer = Recurrent(neuron, 1, into=into)
        nn.init.constant_(layer.recurrent.weight, -100.0)
        return layer(x)[:, 0, 0]

    free = neuron(x)[:, 0, 0]
    assert free.tolist()[:4] == [0, 1, 1, 1]
    assert response("input").tolist()[:4] == [0, 1, 1, 0]
    assert response("i").tolist()[:4] == [0, 1, 0, 0]


def test_gradients_flow_through_time_and_feedback():
    torch.manual_seed(1)
    layer = Sequential(nn.Linear(4, 3), Recurrent(LIF(), 3))
    x = (torch.rand(5, 2, 4) * 4).requires_grad_()
    layer(x).sum().backward()
    recurrent = layer[1]
    assert isinstance(recurrent, Recurrent) and recurrent.recurrent.weight.grad is not None
    assert x.grad is not None and x.grad[0].abs().sum() > 0


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="'input' or a state of LIF"):
        Recurrent(LIF(), 3, into="i")
    with pytest.raises(ValueError, match=r"expected \[T, B, 3\]"):
        Recurrent(LIF(), 3)(torch.zeros(2, 2, 4))
