"""Accuracy after 1..T time steps."""

import pytest
import torch

from spikeloom.analysis.decisions import LatencyCourse


def test_accuracy_after_each_step_by_hand():
    votes = torch.tensor(
        [
            [[1.0, 0.0], [1.0, 0.0]],
            [[0.0, 0.5], [0.0, 2.0]],
            [[0.0, 1.0], [0.0, 0.0]],
        ]
    )
    latency = LatencyCourse()
    latency.add(votes, torch.tensor([1, 1]))
    assert latency.accuracy() == [0.0, 0.5, 1.0]
    latency.add(votes[:, :1], torch.tensor([0]))
    assert latency.accuracy() == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert latency.samples == 3


def test_a_tie_goes_to_the_first_class():
    latency = LatencyCourse()
    latency.add(torch.ones(1, 1, 3), torch.tensor([0]))
    assert latency.accuracy() == [1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rounding_of_the_votes_breaks_no_ties(dtype):
    # Means over ten neurons: 0.1 + 0.2 is not 0.3, and ties are frequent among few spikes.
    spikes = torch.randint(0, 4, (6, 4096, 10), generator=torch.Generator().manual_seed(0))
    labels = torch.full((4096,), 3)
    latency = LatencyCourse()
    latency.add((spikes.to(dtype) / 10), labels)
    exact = [(spikes[:t].sum(0).argmax(-1) == 3).double().mean().item() for t in range(1, 7)]
    assert latency.accuracy() == exact


def test_votes_of_the_wrong_shape_are_named():
    with pytest.raises(ValueError, match=r"votes \[3, 2\] and labels \[2\]"):
        LatencyCourse().add(torch.ones(3, 2), torch.zeros(2, dtype=torch.int64))
    assert LatencyCourse().accuracy() == []
