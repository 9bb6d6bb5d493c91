"""The report of a real, tiny run: what only the trained network can tell."""

import shutil

import pytest

from spikeloom import report
from spikeloom.methods import catalog
from spikeloom.report.examine import Examination, examine
from spikeloom.report.reading import read
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
    for words in ("Decisions over time", "One sample of each class", "right in step", "td_90"):
        assert words in text
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
