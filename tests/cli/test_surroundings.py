"""Odd places to start in: each works, or is told in one line."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runner import TINY, Run

from spikeloom import report
from spikeloom.run import checkpoint
from spikeloom.training import trainer

SPIKELOOM = [sys.executable, "-m", "spikeloom"]


def start(folder: Path, command: list[str | bytes], **environment: str) -> tuple[int, str, str]:
    environment = {"OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"], **environment}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=280)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK"])
@pytest.mark.parametrize("value", ["abc", "-1", "1e9", "9" * 5000])
def test_a_launchers_number_that_is_none(run: Run, monkeypatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    result = run("--version")
    assert result.code == 2
    assert result.err.startswith(f"error: {name}={value[:40]}")  # a long word is shortened
    assert " in the environment: expected a number" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    "verb", [["resume"], ["eval"], ["report"], ["train", "tiny.toml", "--out"]]
)
def test_a_name_that_is_too_long(run: Run, verb: list[str]) -> None:
    result = run(*verb, "x" * 300)
    assert result.code == 2
    assert result.err.startswith("error: ") and "File name too long" in result.err
    assert result.err.count("\n") == 1


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    """A whole training with its report; shown where it cannot be spelled."""
    (tmp_path / "tiny.toml").write_text(TINY)
    folder = os.fsencode(tmp_path) + b"/a\xff"
    code, out, err = start(
        tmp_path, [*SPIKELOOM, "train", "tiny.toml", "epochs=1", "--out", folder]
    )
    assert (code, err) == (0, "")
    assert r"a\udcff" in out
    assert os.path.getsize(folder + b"/report.html") > 1000


def test_closed_streams_and_output_that_is_not_utf8(tmp_path: Path) -> None:
    closed = [sys.executable, "-m", "spikeloom", "recipes", "plif"]
    code, out, err = start(tmp_path, ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *closed])
    assert (code, out, err) == (0, "", "")
    code, out, err = start(tmp_path, closed, PYTHONIOENCODING="ascii")
    assert code == 0 and "plif/digits" in out and not err


def test_a_home_that_cannot_be_written_and_python_without_assertions(tmp_path: Path) -> None:
    """As from cron: hardly any environment; also without assertions."""
    (tmp_path / "tiny.toml").write_text(TINY.replace("eager", "auto"))
    command = [sys.executable, "-O", "-m", "spikeloom", "train", "tiny.toml", "epochs=1"]
    code, out, err = start(tmp_path, command, HOME="/proc/nowhere")
    assert code == 0 and "accuracy-A" in out
    assert err.count("kernel cache /proc/nowhere/.cache/spikeloom/kernels is not used") == 1


def test_ctrl_c_while_modules_are_loaded(tmp_path: Path) -> None:
    """Where a KeyboardInterrupt would leave half a module behind."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, os, signal\n"
        # where the tests run in the background, children are born deaf to it
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'numpy.matrixlib':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
    )
    command = [*SPIKELOOM, "train", "plif/digits"]
    assert start(tmp_path, command, PYTHONPATH=str(tmp_path)) == (130, "", "interrupted\n")


INSTANTS = {
    "data": (trainer, "load_data"),
    "evaluation": (trainer, "measure"),
    "checkpoint": (checkpoint, "write"),
    "report": (report, "write"),
}


@pytest.mark.parametrize("instant", INSTANTS)
def test_ctrl_c_at_any_instant(run: Run, monkeypatch, instant: str) -> None:
    """One line and 130; what had begun can be gone on with."""
    owner, name = INSTANTS[instant]
    original, struck = getattr(owner, name), False

    def interrupted(*given: object, **options: object) -> object:
        nonlocal struck
        if not struck:
            struck = True
            signal.raise_signal(signal.SIGINT)
        return original(*given, **options)

    monkeypatch.setattr(owner, name, interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = run("train", "tiny.toml", "epochs=3", "--out", "there")
    finally:
        signal.signal(signal.SIGINT, before)
    assert struck and result.code == 130
    assert "Traceback" not in result.err and result.err.count("\n") <= 1
    begun = Path("there/recipe.toml").exists()
    assert run(*(("resume", "there") if begun else ("train", "tiny.toml"))).code == 0


def test_ctrl_c_while_kernels_are_compiled(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    script = (
        "import signal, sys\n"
        "from spikeloom.cli import main\n"
        "from spikeloom.compiler import cache\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "load = cache.load\n"
        "cache.load = lambda text: (signal.raise_signal(signal.SIGINT), load(text))[1]\n"
        "main(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", script, "train", "tiny.toml", "epochs=9", "--out", "there"]
    code, _, err = start(tmp_path, command)
    assert code == 130 and "Traceback" not in err and err.count("\n") <= 1
