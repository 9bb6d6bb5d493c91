"""The report of a real, tiny run: what only the trained network can tell."""

import dataclasses
import shutil

import pytest
import torch

from spikeloom import report
from spikeloom.methods import catalog
from spikeloom.report.examination import Examination, OutputSpikes
from spikeloom.report.examine import examine
from spikeloom.report.page import single, verdict
from spikeloom.run.reading import read
from spikeloom.training import train


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The folder of plif/digits after two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "plif-digits" / "1"
    overrides = ["training.epochs=2", "T=4", "training.threads=1", "training.backend=eager"]
    train(catalog.load_recipe("plif/digits", overrides), folder)
    return folder


@pytest.fixture(scope="module")
def found(digits):
    result = examine(read(digits))
    assert isinstance(result, Examination)
    return result


def test_the_examination_agrees_with_what_training_recorded(digits, found):
    run = read(digits)
    assert run.best is not None and run.end is not None
    assert found.samples == found.test_samples == 359
    assert found.latency[-1] == run.best.test_accuracy
    assert len(found.latency) == 4
    assert found.confusion == run.end.confusion


def test_traces_belong_to_the_layers_that_training_logged(digits, found):
    run = read(digits)
    assert {trace.layer for trace in found.traces} == set(run.firing_rates)
    assert all(len(trace.spikes) == 4 for trace in found.traces)
    assert found.image.shape == (1, 8, 8)


def test_operations_add_spikes_and_multiply_only_in_the_coding_layer(found):
    layers = found.operations.layers
    assert [bool(layer.multiplies) for layer in layers] == [True, False, False, False]
    assert all(layer.accumulates > 0 for layer in layers[1:])
    rates = [layer.accumulates / (4 * layer.synapses) for layer in layers[1:]]
    assert all(0 < rate < 1 for rate in rates)


def test_decisions_are_those_of_the_output_spikes(found):
    shown = found.decisions
    assert shown is not None
    assert shown.figures.rate_accuracy == pytest.approx(found.latency[-1])
    assert [one.label for one in shown.by_class] == list(range(10))
    assert all(one.spikes.shape == (4, 10) for one in (*shown.samples, *shown.by_class))


def test_fewer_samples_on_request(digits):
    few = examine(read(digits), samples=10)
    assert isinstance(few, Examination)
    assert (few.samples, sum(map(sum, few.confusion))) == (10, 10)


def test_every_section_is_there_and_the_file_is_small(digits, tmp_path):
    path = report.write([digits], tmp_path / "report.html")
    text = path.read_text()
    for words in ("One test sample", "Membrane potential", "Accuracy over time steps", "Horowitz"):
        assert words in text
    assert "If the first output spike decided" in text
    assert "Not shown" not in text
    assert path.stat().st_size < 500_000


def test_without_checkpoints_or_data_the_reason_is_given(digits, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(digits, bare)
    shutil.rmtree(bare / "checkpoints")
    reason = examine(read(bare))
    assert isinstance(reason, str) and "no checkpoint 'best'" in reason
    other = tmp_path / "other"
    shutil.copytree(digits, other)
    recipe = other / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('name = "digits"', 'name = "diggits"'))
    reason = examine(read(other))
    assert isinstance(reason, str) and "digits" in reason


def test_rasters_are_shown_where_the_first_spikes_decide(digits, found):
    assert found.decisions is not None and not found.decisions.decide  # PLIF counts votes
    page = single(read(digits), found)
    assert "Decisions over time" in page and "One sample of each class" not in page
    shown = dataclasses.replace(found.decisions, decide=True)
    page = single(read(digits), dataclasses.replace(found, decisions=shown))
    assert "One sample of each class" in page and "(right in step" in page


def test_verdicts_of_first_spikes():
    spikes = torch.zeros(5, 3, 3)
    spikes[1, 0, 1] = spikes[3, 0, 2] = spikes[2, 1, 0] = 1
    classes = ("<a>", "b", "c")
    assert [verdict(OutputSpikes(one, 1), classes) for one in spikes.unbind(1)] == [
        "b (right in step 2)",
        "b (taken for <a> in step 3)",
        "b (silent)",
    ]


def test_a_dead_network_predicts_nothing(digits, found):
    page = single(read(digits), dataclasses.replace(found, scores=(0.0,) * 10))
    assert "No prediction: all scores are equal" in page and "Predicted" not in page
