import math

import pytest
import torch

from spikeloom.analysis.decisions import DecisionCounter, rate_course, time_delay

# [T = 4, B = 3, classes = 2]: class 0 fires first and class 1 more; nothing fires; class 1 late.
SPIKES = torch.tensor(
    [
        [[1, 0], [0, 0], [0, 0]],
        [[0, 1], [0, 0], [0, 0]],
        [[0, 1], [0, 0], [0, 1]],
        [[0, 1], [0, 0], [0, 0]],
    ]
).float()
LABELS = torch.tensor([0, 1, 1])


def count(potentials=None, parts=(slice(0, 3),)):
    counter = DecisionCounter()
    for part in parts:
        own = None if potentials is None else potentials[:, part]
        counter.add(SPIKES[:, part], LABELS[part], own)
    found = counter.result()
    assert found is not None
    return found


def test_first_spike_and_rate_decide_differently():
    found = count()
    assert found.first_spike_course == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert found.rate_course == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1 / 3])
    assert found.early_accuracy == found.first_spike_accuracy == pytest.approx(2 / 3)
    assert found.silent_share == pytest.approx(1 / 3)
    assert found.decision_step == pytest.approx((1 + 3) / 2)


def test_potentials_decide_silent_samples():
    potentials = torch.zeros(4, 3, 2)
    potentials[2, 1, 1] = 0.5
    found = count(potentials)
    assert found.first_spike_accuracy == 1
    assert found.early_accuracy == pytest.approx(2 / 3)


def test_rates_of_the_predicted_class_and_of_the_others():
    found = count()
    # first spike elects 0 (1 of 4 steps), 0 (none), 1 (1 of 4)
    assert found.predicted_rates["first-spike"] == pytest.approx((0.25 + 0 + 0.25) / 3)
    assert found.other_rates["first-spike"] == pytest.approx((0.75 + 0 + 0) / 3)
    assert found.predicted_rates["rate"] == pytest.approx((0.75 + 0 + 0.25) / 3)


def test_batches_add_up():
    assert count(parts=(slice(0, 1), slice(1, 3))) == count()


def test_nothing_fires():
    counter = DecisionCounter()
    assert counter.result() is None
    counter.add(torch.zeros(3, 2, 4), torch.tensor([0, 1]))
    found = counter.result()
    assert found is not None and found.silent_share == 1 and math.isnan(found.decision_step)
    assert found.first_spike_accuracy == 0 and found.rate_course == [0, 0, 0]


def test_population_means_tie_as_their_counts_do():
    # 0.1 + 0.2 against 0.3: as many spikes of ten neurons
    votes = torch.tensor([[[0.1, 0.0]], [[0.2, 0.3]]], dtype=torch.float64)
    assert rate_course(votes, torch.tensor([0])).tolist() == [1, 1]


def test_delays():
    course = [0.0, 0.4, 0.5, 0.8, 0.8]
    assert time_delay(course, 50) == 1
    assert time_delay(course, 90) == 3


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="expected"):
        DecisionCounter().add(torch.zeros(3, 2, 4), torch.tensor([0]))
