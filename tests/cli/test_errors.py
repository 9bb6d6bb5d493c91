"""Mistakes on the command line: exit code 2, one line for each, no traceback unless asked for."""

from pathlib import Path

import pytest
from cli_runner import Run

from spikeloom.errors import ConfigError


def test_wrong_recipe_name(run: Run):
    assert run("train", "plif/digit") == (
        2,
        "",
        'error: plif/digit: unknown recipe; did you mean "plif/digits"? '
        "(or give the path of a .toml file)\n",
    )


def test_two_mistakes_are_two_lines(run: Run):
    assert run("train", "plif/digits", "epoch=3", "T=zero") == (
        2,
        "",
        'error: override epoch=3: unknown key epoch; did you mean "training.epochs"?\n'
        'error: override T=zero: network.T: got "zero", expected an integer, at least 1\n',
    )


def test_mistake_in_a_file(run: Run):
    Path("bad.toml").write_text('extends = "plif/digits"\n[trainin]\nepochs = 1\n')
    assert run("config", "check", "bad.toml") == (
        2,
        "",
        'error: bad.toml: trainin: unknown key; did you mean "training"?\n',
    )


def test_unknown_method(run: Run):
    assert run("recipes", "plyf").err == 'error: plyf: unknown method; did you mean "plif"?\n'


def test_unknown_data_set(run: Run):
    result = run("config", "check", "plif/digits", "data=digit")
    assert result.code == 2
    assert result.err.startswith("error: no data set is called 'digit': did you mean digits")


def test_missing_data_shows_where_it_was_looked_for_and_leaves_no_folder(run: Run):
    result = run("train", "plif/mnist", "root=nowhere")
    assert result.code == 2
    assert result.err.startswith("error: mnist: no files found")
    assert "nowhere" in result.err
    assert list(Path("runs").rglob("*")) == [Path("runs/plif-mnist")]


def test_no_run_folder(run: Run):
    for verb in ("resume", "eval", "report"):
        result = run(verb, "away")
        assert result.code == 2
        assert result.err.startswith("error: away")
        assert len(result.err.splitlines()) == 1


def test_two_names_for_the_run_folder(run: Run):
    result = run("train", "tiny.toml", "--out", "a", "--name", "b")
    assert result.err == "error: --out a and --name b both name the run folder: give one of them\n"


def test_name_that_is_a_path(run: Run):
    result = run("train", "tiny.toml", "--name", "../b")
    assert result.err == (
        "error: --name ../b: expected one folder name; --out takes a whole path\n"
    )


def test_a_plot_without_a_format(run: Run):
    assert run("eval", "away", "--plot", "latency").err == (
        "error: --plot latency: give a file that ends in .svg, .png, .pdf\n"
    )


def test_timesteps_that_are_no_numbers(run: Run):
    assert run("eval", "away", "--timesteps", "1,x").err == (
        "error: --timesteps 1,x: expected numbers of steps such as 1,2,5\n"
    )


@pytest.mark.parametrize("arguments", [["--debug", "train", "x"], ["train", "x", "--debug"]])
def test_debug_shows_the_traceback(arguments: list[str]):
    from spikeloom.cli import main

    with pytest.raises(ConfigError):
        main(arguments)


def test_unknown_verb_and_option(run: Run):
    assert run("trian").code == 2
    assert run("train", "plif/digits", "--epochs", "3").code == 2
