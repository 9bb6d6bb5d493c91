"""`spikeloom compare` and `spikeloom sweep`."""

import csv
import json
from pathlib import Path

import pytest
from cli_runner import Run

import spikeloom as sl
from spikeloom.analysis import wilson
from spikeloom.cli.sweep import _choices
from spikeloom.errors import ConfigError

TINY = ("T=2", "channels=4", "hidden=16", "epochs=1", "batch_size=512", "backend=eager")


def test_values_are_told_apart() -> None:
    assert _choices("lr=1e-3,3e-3") == ["lr=1e-3", "lr=3e-3"]
    assert _choices("betas=[0.9,0.99]") == ["betas=[0.9,0.99]"]
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        _choices("lr")


def test_an_interval_holds_its_accuracy() -> None:
    low, high = wilson(0.9861, 359)
    assert low == pytest.approx(0.968, abs=1e-3) and high == pytest.approx(0.994, abs=1e-3)
    assert wilson(1.0, 10)[1] == 1.0 and wilson(0.0, 10)[0] == pytest.approx(0)


def test_two_seeds_are_trained_kept_and_compared(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    given = ("sweep", "plif/digits", "seed=1,2", *TINY, "--out", str(folder))
    first = run(*given)
    assert first.code == 0, first.err
    assert "seeds of" in first.out and (folder / "report.html").is_file()
    rows = list(csv.DictReader((folder / "sweep.csv").read_text().splitlines()))
    assert [row["seed"] for row in rows] == ["1", "2"]
    assert all(float(row["memory_mb"]) > 10 for row in rows)
    assert run(*given).out.count("finished before") == 2
    places = [folder / row for row in sorted(p.name for p in folder.iterdir() if p.is_dir())]
    table = run("compare", *map(str, places), "--csv", str(tmp_path / "rows.csv"))
    assert table.code == 0 and "deviation" in table.out
    assert [row["run"] for row in sl.compare(places)] == [row["run"] for row in rows]


def test_a_mistake_is_told_before_the_first_training(run: Run, tmp_path: Path) -> None:
    result = run("sweep", "plif/digits", "lr=1e-3", "epcohs=1", "--out", str(tmp_path / "s"))
    assert result.code == 2 and "epochs" in result.err and not (tmp_path / "s").exists()


def test_keys_given_as_options_are_answered_with_how_they_are_given(run: Run) -> None:
    result = run("train", "plif/digits", "--epochs", "4")
    assert result.code == 2 and "given without dashes, epochs=4" in result.err
    assert "batch_size=8" in run("train", "plif/digits", "--batch-size=8").err


def test_latency_is_measured_one_sample_at_a_time_and_stands_in_the_comparison(run: Run):
    run("train", "tiny.toml", "--no-report")
    before = run("compare", "runs/tiny/1", "--json").out
    shown = run("eval", "runs/tiny/1", "--latency")
    assert "one sample at a time: median" in shown.out
    kept = json.loads(Path("runs/tiny/1/latency.json").read_text())
    assert kept["samples"] == 200 and 0 < kept["median_ms"] <= kept["slowest_ms"]
    assert json.loads(before)[0]["latency_ms"] is None
    (row,) = json.loads(run("compare", "runs/tiny/1", "--json").out)
    assert row["latency_ms"] == kept["median_ms"]
    run("report", "runs/tiny/1")
    assert "one sample at a time" in Path("runs/tiny/1/report.html").read_text()


@pytest.mark.slow
def test_a_search_goes_on_where_it_was_cut(run: Run, tmp_path: Path) -> None:
    """Optuna chooses values by the accuracies so far, the same ones when it is started again."""
    pytest.importorskip("optuna")
    folder = tmp_path / "search"
    given = ("sweep", "plif/digits", "lr=1e-3,3e-3,1e-2", *TINY, "--out", str(folder))
    assert run(*given, "--search", "1").code == 0
    result = run(*given, "--search", "3")
    assert result.code == 0, result.err
    assert "finished before" in result.out and (folder / "report.html").is_file()
    rows = list(csv.DictReader((folder / "sweep.csv").read_text().splitlines()))
    assert 1 <= len(rows) <= 3 and all(float(row["accuracy"]) > 0 for row in rows)
