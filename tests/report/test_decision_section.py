"""The section about first spikes: what it says about samples, without training anything."""

import torch

from spikeloom.analysis.decisions import DecisionCounter
from spikeloom.report.decision_section import DecisionExamination, OutputSpikes, decisions

CLASSES = ("<a>", "b", "c")


def section() -> str:
    """Three samples of label 1: right in step 2, taken for 0 in step 3, silent."""
    spikes = torch.zeros(5, 3, 3)
    spikes[1, 0, 1] = spikes[3, 0, 2] = spikes[2, 1, 0] = 1
    labels = torch.tensor([1, 1, 1])
    counter = DecisionCounter()
    counter.add(spikes, labels)
    figures = counter.result()
    assert figures is not None
    samples = tuple(OutputSpikes(one, 1) for one in spikes.unbind(1))
    return decisions(DecisionExamination(figures, samples, samples[:1]), CLASSES)


def test_verdicts():
    page = section()
    assert "b (right in step 2)" in page
    assert "b (taken for &lt;a&gt; in step 3)" in page
    assert "b (silent)" in page and "no output neuron fires" in page


def test_figures():
    page = section()
    assert "33.33 %" in page  # silent samples, and the accuracy of the first spike
    assert "mean step of the first output spike" in page and ">2.5<" in page


def test_nothing_without_output_spikes():
    assert decisions(None, CLASSES) == ""
