import pytest
import torch

from spikeloom.analysis.decisions import first_spike_times
from spikeloom.methods.fs.first_spike import first_spike_votes


def spikes(*trains: str) -> torch.Tensor:
    """`[T, 1, N]` from one text such as "0.1." per neuron, spikes marked by 1."""
    return torch.tensor([[[float(t == "1") for t in step]] for step in zip(*trains, strict=True)])


def test_first_spikes_count_from_one():
    assert first_spike_times(spikes("1...", "..11", "...1")).tolist() == [[1, 3, 4]]


def test_silent_neurons_are_ranked_by_peak_potential():
    potentials = torch.tensor([[[0.1, 0.9, 0.3, 0.2]], [[0.2, 0.1, 0.3, 0.8]]])
    # ranks by peak: neuron 1, then 3, then 2, then 0; neuron 1 fires
    times = first_spike_times(spikes("..", ".1", "..", ".."), potentials)
    assert times.tolist() == [[2 + 4, 2, 2 + 3, 2 + 2]]


def test_equal_peaks_go_to_the_lower_index():
    assert first_spike_times(spikes("..", ".."), torch.ones(2, 1, 2)).tolist() == [[3, 4]]


def test_without_potentials_silent_neurons_share_the_step_after_the_end():
    assert first_spike_times(spikes("..", ".1")).tolist() == [[3, 2]]


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.5])
def test_votes_agree_with_first_times(rate):
    generator = torch.Generator().manual_seed(4)
    fired = torch.bernoulli(torch.full((12, 40, 5), rate), generator=generator)
    potentials = torch.randn(12, 40, 5, generator=generator)
    times = first_spike_times(fired, potentials)
    votes = first_spike_votes(times, 12)
    for t in range(1, 13):
        decided = times.min(1).values <= t
        elected = votes[:t].sum(0).argmax(1)
        assert torch.equal(elected[decided], times.argmin(1)[decided])
    assert torch.equal(votes.sum(0).argmax(1), times.argmin(1))
