"""The command line starts fast, and stops as it should."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runner import TINY, Run

from spikeloom import __version__

SPIKELOOM = [sys.executable, "-m", "spikeloom"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["train", "--help"],
        ["eval", "--help"],
        ["recipes"],
        ["config", "explain"],
        ["config", "show", "plif/digits", "T=3"],
        ["train", "plif/nothing"],
    ],
)
def test_torch_is_not_loaded_before_it_is_needed(arguments: list[str]):
    code = (
        "import sys\nfrom spikeloom.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "print('torch' in sys.modules, 'numba' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "False False"


def test_help_takes_less_than_a_third_of_a_second():
    """Of processor time, which other work on the machine does not lengthen; the best of five."""
    used = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*SPIKELOOM, "--help"], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(used) < 0.3


def test_help_names_every_verb(run: Run):
    result = run("--help")
    assert result.code == 0
    for verb in ("train", "resume", "eval", "report", "recipes", "config", "data", "doctor"):
        assert f" {verb} " in result.out


def test_version(run: Run):
    assert run("--version") == (0, f"spikeloom {__version__}\n", "")


def test_completion_offers_recipe_names():
    environment = {
        **os.environ,
        "_SPIKELOOM_COMPLETE": "complete_bash",
        "COMP_WORDS": "spikeloom train plif/dig",
        "COMP_CWORD": "2",
    }
    program = "from spikeloom.cli.app import app; app(prog_name='spikeloom')"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == [
        "plif/digits",
        "plif/digits-callbacks",
        "plif/digits-events",
    ]


def test_interrupted_training_exits_with_130_and_says_how_to_go_on(tmp_path: Path):
    (tmp_path / "tiny.toml").write_text(TINY)
    training = subprocess.Popen(
        [*SPIKELOOM, "train", "tiny.toml", "epochs=100000"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert training.stdout is not None
    shown = ""
    while "epoch 1 " not in shown:
        line = training.stdout.readline()
        assert line, "training ended by itself"
        shown += line
    training.send_signal(signal.SIGINT)
    out, err = training.communicate(timeout=60)
    assert training.returncode == 130
    assert "spikeloom resume runs/tiny/1" in out + err
    assert "Traceback" not in err
