"""Each verb does what it says, from its arguments to its output."""

import csv
import json
import tomllib
from pathlib import Path

import pytest
from cli_runner import Run

from spikeloom.cli.output import print_table
from spikeloom.methods import catalog


def test_train_eval_report_resume(run: Run):
    trained = run("train", "tiny.toml", "seed=3")
    assert (trained.code, trained.err) == (0, "")
    assert trained.out.startswith("run folder runs/tiny/1\n")
    folder = Path("runs/tiny/1")
    assert catalog.load_recipe(folder / "recipe.toml") == catalog.load_recipe(
        "tiny.toml", ["seed=3"]
    )

    shown = run("eval", str(folder), "--timesteps", "2", "--noise", "0.1")
    assert shown.code == 0
    assert "359 test samples, noise 0.1" in shown.out

    measured = json.loads(run("eval", str(folder), "--json").out)
    assert measured["samples"] == 359 and measured["noise"] == 0
    assert list(measured["accuracy_after_timesteps"]) == ["1", "2"]
    assert measured["accuracy_after_timesteps"]["2"] == measured["accuracy"]
    assert measured["firing_rates"]
    by_rate = measured["decisions"]["rate"]
    assert by_rate["accuracy"] == pytest.approx(measured["accuracy"])
    # Silent samples have no decision over time, and a first class by accuracy.
    assert len(by_rate["accuracy_over_time"]) == 2
    assert by_rate["accuracy_over_time"][-1] <= measured["accuracy"]
    total = sum(measured["spikes_per_sample"].values()) / sum(measured["neurons"].values())
    assert measured["spikes_per_neuron"] == pytest.approx(total)
    assert "decision by" in run("eval", str(folder), "--csv", "figures.csv").out
    rows = list(csv.DictReader(Path("figures.csv").read_text().splitlines()))
    assert list(measured["accuracy_by_class"]) == [str(digit) for digit in range(10)]
    figures = {(row["figure"], row["of"]): float(row["value"] or "nan") for row in rows}
    assert figures["accuracy", ""] == measured["accuracy"]
    assert figures["rate accuracy over time", "2"] == by_rate["accuracy_over_time"][1]
    Path("file").touch()
    assert run("eval", str(folder), "--csv", "file/figures.csv").code == 2
    layers = measured["operations"]["layers"]
    assert sum(layer["picojoule"] for layer in layers) == pytest.approx(
        measured["operations"]["picojoule"]
    )
    assert (
        len(
            json.loads(run("eval", str(folder), "--json", "--T", "5").out)[
                "accuracy_after_timesteps"
            ]
        )
        == 5
    )

    drawn = ("--timesteps", "1,2,5", "--plot", "pictures/latency.svg")
    longer = json.loads(run("eval", str(folder), "--json", *drawn).out)
    picture = Path("pictures/latency.svg").read_text()
    assert picture.count("<svg") == 1 and "trained with T = 2" in picture
    after = longer["accuracy_after_timesteps"]
    assert list(after) == ["1", "2", "5"]
    assert longer["accuracy"] == measured["accuracy"] == after["2"]

    too_many = run("eval", str(folder), "--T", "2", "--timesteps", "1,3")
    assert too_many.code == 2
    assert too_many.err == "error: --timesteps 3: this network has votes for 1 to 2 steps\n"

    reported = run("report", str(folder), "-o", "all.html")
    assert (reported.code, reported.out) == (0, "all.html\n")
    assert Path("all.html").read_text().lstrip().lower().startswith("<!doctype html>")

    again = run("train", "tiny.toml", "--out", str(folder))
    assert again.code == 2 and f"spikeloom resume {folder}" in again.err
    assert run("resume", str(folder)).code == 0


def test_run_folders_are_numbered_and_named(run: Run):
    Path("runs/tiny/7").mkdir(parents=True)
    Path("runs/tiny/notes").mkdir()
    assert run("train", "tiny.toml").out.startswith("run folder runs/tiny/8\n")
    named = run("train", "tiny.toml", "--name", "wide")
    assert named.out.startswith("run folder runs/tiny/wide\n")
    assert run("train", "tiny.toml", "--name", "wide").code == 2


def test_recipes_lists_every_recipe_with_its_published_figures(run: Run):
    shown = run("recipes").out
    assert all(name in shown for name in catalog.recipe_names())
    listed = {entry["recipe"]: entry for entry in json.loads(run("recipes", "plif", "--json").out)}
    names = catalog.recipe_names()
    assert sorted(listed) == [n for n in names if catalog.load_recipe(n).method == "plif"]
    mnist = listed["plif/mnist"]
    assert (mnist["data"], mnist["published"]) == ("mnist", {"A": 99.72, "B": 99.63})
    assert "99.72" in shown and "99.63" in shown


def test_config_show_is_the_whole_recipe(run: Run):
    shown = run("config", "show", "plif/digits", "T=3")
    assert tomllib.loads(shown.out)["network"]["T"] == 3
    Path("mine.toml").write_text(shown.out)
    mine = catalog.load_recipe("mine.toml")
    assert mine.origin == "mine"
    ours = catalog.load_recipe("plif/digits", ["T=3"])
    assert mine.model_copy(update={"origin": ours.origin}) == ours


def test_config_check(run: Run):
    assert run("config", "check", "plif/digits", "T=3") == (
        0,
        "plif/digits: good (plif on digits: PLIF on the bundled 8x8 digits)\n",
        "",
    )


def test_config_explain_of_one_key(run: Run):
    assert run("config", "explain", "plif/digits", "lr").out.splitlines() == [
        "optimizer.lr",
        "  learning rate at the start of the schedule",
        "  type     number",
        "  range    above 0",
        "  default  0.001",
        "  value    0.003 (plif/digits)",
    ]
    assert "value" not in run("config", "explain", "lr").out
    assert "network.T (plif)\n" in run("config", "explain", "network.T").out


def test_config_explain_of_everything(run: Run):
    shown = run("config", "explain", "plif/digits").out
    for title in ("[data]", "[network]", "[optimizer]", "[training]", "[checkpoint]"):
        assert f"\n{title}" in shown
    sections = json.loads(run("config", "explain", "plif/digits", "--json").out)
    epochs = next(key for key in sections["[training]"] if key["key"] == "training.epochs")
    assert epochs == {
        "key": "training.epochs",
        "meaning": "passes over the training set",
        "type": "integer",
        "range": "at least 1",
        "default": "required",
        "value": "20",
    }
    assert "[network] of plif" in json.loads(run("config", "explain", "--json").out)


def test_config_explain_names_the_nearest_key(run: Run):
    result = run("config", "explain", "plif/digits", "epoch")
    assert (result.code, result.err) == (
        2,
        'error: plif/digits: unknown key epoch; did you mean "training.epochs"?\n',
    )


def test_numbers_stand_to_the_right_in_a_table(capsys: pytest.CaptureFixture[str]):
    print_table(("run", "accuracy", "note"), [("a/1", "9.50 %", "x"), ("b", "-", "")])
    rows = capsys.readouterr().out.splitlines()[2:4]
    assert [row.split() for row in rows] == [["a/1", "9.50", "%", "x"], ["b", "-"]]
    assert rows[0].index(" %") + 1 == rows[1].index("-")


def test_data_verbs(run: Run):
    listed = {entry["name"]: entry for entry in json.loads(run("data", "list", "--json").out)}
    assert listed["digits"]["published"] == {"train": 1438, "test": 359}
    assert listed["digits"]["found"] is not None
    assert listed["mnist"]["found"] is None
    shown = run("data", "list").out
    assert all(name in shown for name in listed)

    checked = run("data", "check", "digits")
    assert checked.code == 0
    assert "test: 359 samples of 1x8x8" in checked.out
    assert run("data", "prepare", "digits").out.startswith("digits: verified")
    assert run("data", "check", "digit").code == 2
