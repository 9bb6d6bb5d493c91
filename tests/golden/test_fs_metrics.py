"""Accuracies, rates, courses over time, and delays equal the published evaluation."""

import numpy as np
import pytest
import torch
from golden_compare import assert_exact
from golden_fs import Arrays, tensor

from spikeloom.analysis.decisions import DecisionCounter, first_spike_times, rate_course, time_delay
from spikeloom.methods.fs.loss import first_spike_loss

PERCENT = 0.005
"""Published percentages are rounded to two decimals."""


def _batches(arrays: Arrays) -> list[dict[str, torch.Tensor]]:
    count = sum(name.endswith("_spikes") for name in arrays)
    batches = []
    for i in range(count):
        batches.append(
            {
                "spikes": tensor(arrays[f"b{i}_spikes"]).movedim(-1, 0),
                "potentials": tensor(arrays[f"b{i}_potentials"]).movedim(-1, 0),
                "labels": torch.from_numpy(arrays[f"b{i}_label"]),
            }
        )
        times = first_spike_times(batches[-1]["spikes"], batches[-1]["potentials"])
        assert_exact(times, arrays[f"b{i}_first_time"], "first times")
        batches[-1]["times"] = times
    return batches


def _near(course: list[float], expected: np.ndarray) -> None:
    np.testing.assert_allclose(100 * np.array(course), expected, rtol=0, atol=PERCENT + 1e-9)


def test_evaluation(fs_metrics: Arrays) -> None:
    counter = DecisionCounter()
    batches = _batches(fs_metrics)
    for batch in batches:
        counter.add(batch["spikes"], batch["labels"], batch["potentials"])
    found = counter.result()
    assert found is not None
    for kind, accuracy in (("fs", found.first_spike_accuracy), ("fr", found.rate_accuracy)):
        assert 100 * accuracy == pytest.approx(float(fs_metrics[f"acc_{kind}"]), abs=PERCENT)
    for kind, name in (("fs", "first-spike"), ("fr", "rate")):
        for ours, theirs in ((found.predicted_rates, "pred"), (found.other_rates, "other")):
            expected = float(fs_metrics[f"{theirs}_rate_{kind}"])
            assert ours[name] == pytest.approx(expected, rel=1e-5), f"{theirs} {kind}"
    for kind, course in (("fs", found.first_spike_course), ("fr", found.rate_course)):
        _near(course, fs_metrics[f"{kind}_acc_with_time"])
        _check_delays(fs_metrics, kind, course)
    weighted = sum(
        first_spike_loss(b["times"], b["labels"], float(fs_metrics["alpha_fs"])) * len(b["labels"])
        for b in batches
    )
    assert float(weighted) / found.samples == pytest.approx(float(fs_metrics["test_loss"]))


def test_sliding_window(fs_metrics: Arrays) -> None:
    batches = _batches(fs_metrics)
    window = int(fs_metrics["T"]) - len(fs_metrics["fr_win5_acc_with_time"])
    steps = range(len(fs_metrics["fr_win5_acc_with_time"]))
    right = torch.tensor(
        [
            sum(int(rate_course(b["spikes"][t : t + window], b["labels"])[-1]) for b in batches)
            for t in steps
        ]
    )
    course = (right / sum(len(b["labels"]) for b in batches)).tolist()
    _near(course, fs_metrics["fr_win5_acc_with_time"])
    _check_delays(fs_metrics, "fr_win5", course)


def _check_delays(arrays: Arrays, kind: str, course: list[float]) -> None:
    for percent in (50, 90):
        assert time_delay(course, percent) == float(arrays[f"{kind}_td{percent}"])


def test_spike_counts(fs_metrics: Arrays) -> None:
    """Theirs are means over batches; ours, over samples, agree where batches are equally large."""
    neurons = tensor(fs_metrics["num_neurons"])
    count = sum(name.endswith("_spike_counts") for name in fs_metrics)
    layers = torch.stack([tensor(fs_metrics[f"b{i}_spike_counts"]) for i in range(count)]).mean(0)
    np.testing.assert_allclose(layers / neurons, fs_metrics["avg_spike_count_per_layer"], rtol=1e-5)
    total = float(layers.sum() / neurons.sum())
    assert total == pytest.approx(float(fs_metrics["avg_spike_count"]), rel=1e-5)
