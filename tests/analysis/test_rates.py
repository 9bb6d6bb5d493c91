"""Firing rates and learned constants."""

import pytest
import torch
from torch import nn

from spikeloom.analysis.constants import learned_constants
from spikeloom.analysis.rates import FiringRates
from spikeloom.neurons import IF, LIF, PLIF
from spikeloom.nn import Sequential


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return Sequential(nn.Linear(6, 5), PLIF(tau=2.0), nn.Linear(5, 4), IF(v_threshold=0.2))


def test_rates_are_the_mean_of_the_spikes_over_all_batches():
    network = small_network()
    batches = [torch.randn(3, 7, 6) * 4, torch.randn(3, 2, 6) * 4]
    with FiringRates(network) as rates, torch.no_grad():
        outputs = [network(batch) for batch in batches]
    spikes = torch.cat([output.flatten() for output in outputs])
    assert 0 < spikes.mean() < 1
    assert rates.per_layer()["3"] == spikes.double().mean().item()
    assert rates.counts()["3"] == (int(spikes.sum()), 3 * 9 * 4)
    assert list(rates.per_layer()) == ["1", "3"]


def test_counts_stay_exact_where_a_float32_sum_does_not():
    class AlwaysOn(IF):
        def forward(self, x, state=None):
            return torch.ones(()).expand(x.shape)

    neuron = AlwaysOn()
    odd = 2**24 + 1
    with FiringRates(neuron) as rates:
        neuron(torch.zeros(1, 1).expand(1, odd))
    assert rates.counts()["neuron"].spikes == odd


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("laid", ["as made", "channel last", "sample first", "with gaps"])
def test_spikes_of_large_layers_are_counted_in_any_order_of_memory(dtype, laid):
    class Handed(IF):
        def forward(self, x, state=None):
            return x

    torch.manual_seed(0)
    x = (torch.rand(4, 16, 32, 16, 16) < 0.1).to(dtype) * -0.5  # zeros with a sign are no spikes
    x[1, 2, 3] = float("nan")  # torch counts what is no number
    if laid == "channel last":
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    elif laid == "sample first":
        x = x.transpose(0, 1).contiguous().transpose(0, 1)
    elif laid == "with gaps":
        x = x.repeat_interleave(2, -1)[..., ::2]
    neuron = Handed()
    with FiringRates(neuron) as rates:
        neuron(x)
    assert rates.counts()["neuron"] == (int((x != 0).sum()), x.numel())
    assert 0.05 < rates.per_layer()["neuron"] < 0.2


def test_counting_changes_neither_outputs_nor_gradients():
    inputs = torch.randn(4, 3, 6) * 3
    gradients = []
    for counted in (False, True):
        network = small_network()
        rates = FiringRates(network)
        if counted:
            with rates:
                network(inputs).sum().backward()
        else:
            network(inputs).sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_neurons_that_carry_state_are_counted_and_nothing_is_counted_after_the_block():
    neuron = IF()
    x = torch.full((2, 3, 1), 1.0)
    with FiringRates(neuron) as rates:
        neuron(x, neuron.initial_state(x))
    neuron(x)
    assert rates.counts()["neuron"] == (6, 6)


def test_a_layer_that_never_ran_has_rate_zero():
    assert FiringRates(IF()).per_layer() == {"neuron": 0.0}


def test_constants_are_named_by_layer_with_their_spread():
    per_channel = PLIF(tau=2.0, shape=(3,))
    with torch.no_grad():
        per_channel.w.copy_(torch.tensor([0.0, -1.0, 1.0]))
    network = Sequential(PLIF(tau=4.0), per_channel, LIF(tau=3.0), IF())
    figures = learned_constants(network)
    assert list(figures) == ["0/tau", "1/tau", "2/tau"]
    assert figures["0/tau"] == pytest.approx({"mean": 4, "min": 4, "max": 4})
    e = 2.718281828459045
    assert figures["1/tau"] == pytest.approx(
        {"mean": (2 + (1 + e) + (1 + 1 / e)) / 3, "min": 1 + 1 / e, "max": 1 + e}
    )
    assert figures["2/tau"]["mean"] == 3.0
