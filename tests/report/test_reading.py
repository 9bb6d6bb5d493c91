"""Run folders whole, still going on, killed, and damaged."""

import json

import pytest

from spikeloom.errors import RunError
from spikeloom.run.reading import read


def test_a_finished_run_is_read_whole(make_run):
    run = read(make_run(epochs=6))
    assert run.finished and not run.problems
    assert (run.title, run.name) == ("PLIF on <digits> & more", "plif-digits/1")
    assert (run.protocol, run.published, run.time_steps, run.planned_epochs) == ("A", 99.5, 8, 6)
    assert [epoch.epoch for epoch in run.epochs] == list(range(6))
    assert run.epochs[0].constants["stages.0.neuron/tau"].mean == 2
    assert list(run.firing_rates.values()) == [0.2, 0.1, 0.2 / 3, 0.05]
    assert run.best is not None and run.best.epoch == 5
    assert run.seconds == 25.5
    assert run.start.parameters == 13198980
    assert run.environment["torch"] == "2.13.0"
    assert run.end is not None and run.end.confusion[0][0] == 30


def test_published_figure_and_origin_follow_the_recipe(make_run):
    run = read(make_run(protocol="B"))
    assert run.published == 98.0
    assert run.origin == "plif/no-such-data"
    assert run.setting("network.tau") == 2.0
    assert run.setting("network.missing", "other") == "other"
    assert run.setting("title.below") is None


def test_a_run_that_is_going_on_reports_what_it_has(make_run):
    run = read(make_run(epochs=10, finished=False))
    assert not run.finished
    assert len(run.epochs) == 5
    assert run.seconds == 5 * 1.25
    assert run.best is not None and run.best.epoch == 4


def test_a_last_line_cut_short_is_left_out_silently(make_run):
    folder = make_run(epochs=4, finished=False)
    path = folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    run = read(folder)
    assert [epoch.epoch for epoch in run.epochs] == [0]
    assert not run.problems


def test_a_damaged_line_and_a_damaged_record_are_named(make_run):
    folder = make_run(epochs=3)
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[2] = "{nonsense\n"
    record = json.loads(lines[3])
    record["train_loss"] = "high"
    lines[3] = json.dumps(record) + "\n"
    path.write_text("".join(lines))
    run = read(folder)
    assert [epoch.epoch for epoch in run.epochs] == [2]
    assert "metrics.jsonl, line 3: not an event of a run" in run.problems[0]
    assert "epoch record left out: train_loss" in run.problems[1]


def test_unknown_keys_and_events_are_ignored_and_a_repeated_epoch_counts_once(make_run):
    folder = make_run(epochs=2)
    path = folder / "metrics.jsonl"
    again = json.loads(path.read_text().splitlines()[2])
    again |= {"train_loss": 0.5, "invented_later": 1}
    with path.open("a") as file:
        file.write(json.dumps(again) + "\n" + '{"event": "coffee"}\n')
    run = read(folder)
    assert [epoch.epoch for epoch in run.epochs] == [0, 1]
    assert run.epochs[0].train_loss == 0.5
    assert not run.problems


def test_everything_but_the_recipe_may_be_missing(make_run):
    folder = make_run()
    (folder / "metrics.jsonl").unlink()
    (folder / "environment.json").write_text("{")
    run = read(folder)
    assert run.epochs == () and run.best is None and run.seconds == 0 and run.firing_rates == {}
    assert len(run.problems) == 2


def test_a_folder_that_is_no_run_is_named(tmp_path, make_run):
    with pytest.raises(RunError, match="does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"holds no recipe\.toml"):
        read(tmp_path)
    folder = make_run()
    with pytest.raises(RunError, match="is a file"):
        read(folder / "metrics.jsonl")
    (folder / "recipe.toml").write_text("title = ")
    with pytest.raises(RunError, match=r"recipe\.toml cannot be read"):
        read(folder)


def test_the_runs_below_a_folder_are_named(make_run):
    folder = make_run("plif-digits/1", epochs=1).parent
    make_run("plif-digits/lr=3e-3", epochs=1)
    with pytest.raises(RunError, match="the runs in it are 1, lr=3e-3: give one of them"):
        read(folder)
