"""Accuracy after 1..T time steps."""

import pytest
import torch

from spikeloom.analysis.latency import Latency


def test_accuracy_after_each_step_by_hand():
    votes = torch.tensor(
        [
            [[1.0, 0.0], [1.0, 0.0]],
            [[0.0, 0.5], [0.0, 2.0]],
            [[0.0, 1.0], [0.0, 0.0]],
        ]
    )
    latency = Latency()
    latency.add(votes, torch.tensor([1, 1]))
    assert latency.accuracy() == [0.0, 0.5, 1.0]
    latency.add(votes[:, :1], torch.tensor([0]))
    assert latency.accuracy() == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert latency.samples == 3


def test_a_tie_goes_to_the_first_class():
    latency = Latency()
    latency.add(torch.ones(1, 1, 3), torch.tensor([0]))
    assert latency.accuracy() == [1.0]


def test_the_last_step_equals_the_summed_votes_bit_for_bit():
    # Tenths make ties that a running sum breaks differently.
    votes = torch.randint(0, 11, (8, 4096, 10), generator=torch.Generator().manual_seed(0)) / 10
    labels = torch.zeros(4096, dtype=torch.int64)
    latency = Latency()
    latency.add(votes, labels)
    assert latency.accuracy()[-1] == (votes.sum(0).argmax(-1) == 0).double().mean().item()


def test_votes_of_the_wrong_shape_are_named():
    with pytest.raises(ValueError, match=r"votes \[3, 2\] and labels \[2\]"):
        Latency().add(torch.ones(3, 2), torch.zeros(2, dtype=torch.int64))
    assert Latency().accuracy() == []
