"""`spikeloom rates` on a trained run."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from spikeloom import training
from spikeloom.cli import main
from spikeloom.methods.catalog import load_recipe


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rates") / "run"
    changes = ("T=5", "channels=[4]", "epochs=1", "batch_size=512", "training.threads=1")
    recipe = load_recipe("ide/digits", (*changes, "logging.tensorboard=false"))
    training.train(recipe, folder, console=Console(quiet=True))
    return folder


def _run(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    return exit.value.code


def test_rates_and_total(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("rates", str(trained), "--json") in (0, None)
    found = json.loads(capsys.readouterr().out)
    rates, spikes = found["firing_rates"], found["spikes_per_sample"]
    assert list(rates) == ["feedback.neurons.0"]
    assert found["total"] == rates["feedback.neurons.0"]  # one layer
    places = 5 * 4 * 4 * 4  # steps, channels, pixels
    assert spikes["feedback.neurons.0"] / places == pytest.approx(found["total"])
    recorded = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    epoch = next(event for event in recorded if event["event"] == "epoch")
    assert rates == epoch["test"]["firing_rates"]
    assert found["accuracy"] == epoch["test"]["accuracy"]


def test_table(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("rates", str(trained), "--T", "3") in (0, None)
    text = capsys.readouterr().out
    assert "T = 3" in text and "feedback.neurons.0" in text and "all neurons" in text


def test_no_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("rates", str(tmp_path / "nothing")) == 2
    assert capsys.readouterr().err.startswith("error: ")
