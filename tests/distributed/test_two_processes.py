"""Two processes train as one does with both their batches, and stop, fail, and go on together."""

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from run_folders import assert_same_run, recorded
from spikeloom.run.checkpoint import read

pytestmark = pytest.mark.distributed

HERE = Path(__file__).parent
Scenario = Callable[[str], Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """`run("plif")`: the folder in which the scenario of that name has left its files.

    Workers of pytest-xdist share it: whoever comes first runs a scenario, the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "pairs"
    folder.mkdir(exist_ok=True)

    def once(*names: str) -> Path:
        with open(folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            wanted = [name for name in names if not (folder / f"{name}.done").exists()]
            if wanted:
                answer = subprocess.run(
                    [sys.executable, HERE / "pairs.py", folder, *wanted],
                    capture_output=True,
                    text=True,
                    timeout=280,
                )
                assert answer.returncode == 0, answer.stdout + answer.stderr
            for name in wanted:
                (folder / f"{name}.done").touch()
        return folder

    # One process imports torch for the short ones.
    once("norms", "plif", "dsr", "ide", *FAILURES, "uninterrupted", "killed", "asked_to_stop")
    return once


FAILURES = {
    "damaged_sample": r"DataError: 7.bin: byte 3: damaged: .* \(process 1 of 2\)",
    "no_data": r"DataError: digits: no files found \(process 1 of 2\)",
    "full_disk": "RunError: cannot write .*last.pt.*tmp: No space left on device; make room",
    "not_finite": "NonFiniteError: the loss is nan in epoch 0, step 2",
}


def found(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text())


def said(folder: Path, name: str, rank: int) -> str:
    return (folder / f"{name}.{rank}.txt").read_text()


@pytest.mark.parametrize(
    "method",
    [
        "plif",  # BatchNorm per step, and an ordinary one; gradients added up, an uneven last step
        "dsr",  # thresholds that learn
        "ide",  # the backward pass solves a system in each process
        pytest.param("glif", marks=pytest.mark.slow),  # threshold-dependent BatchNorm
        # BatchNorm inside the loop: the samples of both processes are one system
        pytest.param("ide-coupled", marks=pytest.mark.slow),
    ],
)
def test_equals_one_process_with_the_doubled_batch(run: Scenario, method: str) -> None:
    """In float64 every figure and weight, up to rounding: sums over samples are added in another
    order. (The tolerance of IDE's solver is 1e-12.)"""
    folder = run(method.replace("-", "_"))
    assert found(folder, method) == [0, 0, 0]
    two, one = (folder / f"{method}{number}" for number in (2, 1))
    assert recorded(one)[0]["steps_per_epoch"] > 1
    moving = recorded(one)[-2]
    assert moving["event"] == "epoch" and moving["train_loss"] != pytest.approx(0.1, rel=1e-3)
    a, b = (read(path / "checkpoints" / "last.pt") for path in (two, one))
    for name, value in a["model"].items():
        torch.testing.assert_close(value, b["model"][name], rtol=0, atol=1e-11, msg=name)
    for first, second in zip(recorded(two), recorded(one), strict=True):
        first, second = (without_batches(event) for event in (first, second))
        assert_close(first, second)
    # Counts are exact: no sample was evaluated twice, none left out.
    assert a["confusion"] is not None and b["confusion"] is not None
    assert torch.equal(a["confusion"], b["confusion"]) and int(a["confusion"].sum()) == 359


def without_batches(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != "processes"}


def assert_close(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            # What IDE tells of its solver is of the first process's systems.
            if key != "scalars":
                assert_close(a[key], b[key])
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=1e-10)
    else:
        assert a == b


def test_batch_norm_of_both_processes_equals_that_of_one(run: Scenario) -> None:
    folder = run("norms")
    first, second, alone = (torch.load(folder / f"norms-{who}.pt") for who in ("0", "1", "alone"))
    assert len(alone) == 7
    for kind, whole in alone.items():
        axis = 0 if kind.startswith("torch") else 1
        close(torch.cat([first[kind]["y"], second[kind]["y"]], axis), whole["y"])
        # Each has the gradient of its own samples; the others' are zero.
        close(first[kind]["gradient"] + second[kind]["gradient"], whole["gradient"])
        for a, b, c in zip(*(one[kind]["parameters"] for one in (first, second, alone))):  # noqa: B905
            close(a + b, c)
        for name, value in whole["buffers"].items():
            assert torch.equal(first[kind]["buffers"][name], second[kind]["buffers"][name])
            close(first[kind]["buffers"][name], value)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_killed_ones_go_on_bit_for_bit(run: Scenario) -> None:
    """One process is killed, then the other, then both; nobody hangs, and nothing is lost."""
    folder = run("uninterrupted", "killed")
    one_gone, main_gone, both_gone, at_last = found(folder, "killed")
    assert one_gone == [2, -9] and main_gone == [-9, 2] and both_gone == [-9, -9]
    assert at_last == [0, 0]
    assert "process 0 lost the others" in said(folder, "killed0", 0)
    assert "going on from last.pt: epoch 0, step 1 of 3" in said(folder, "killed1", 0)
    assert "going on from last.pt: epoch 1, step 1 of 3" in said(folder, "killed3", 0)
    assert_same_run(folder / "killed", folder / "whole")


def test_a_signal_to_one_process_stops_all_after_the_same_step(run: Scenario) -> None:
    folder = run("uninterrupted", "asked_to_stop")
    assert found(folder, "stopped") == [[0, 0], [0, 0]]
    assert "stopped in epoch 0 after step 2 of 3" in said(folder, "stopped", 0)
    assert_same_run(folder / "stopped", folder / "whole")


@pytest.mark.parametrize("name", FAILURES)
def test_what_fails_in_one_process_ends_all_with_one_text(run: Scenario, name: str) -> None:
    folder = run(name)
    assert found(folder, name) == [2, 2]
    texts = [said(folder, name, rank).splitlines()[-1] for rank in (0, 1)]
    assert texts[0] == texts[1]
    assert re.match(FAILURES[name], texts[0]), texts[0]


def test_only_the_main_process_speaks(run: Scenario) -> None:
    folder = run("plif", "uninterrupted")
    assert said(folder, "plif", 1) == said(folder, "whole", 1) == ""
    assert "2 processes, 800 samples a step" in said(folder, "plif", 0)


@pytest.mark.slow
def test_a_mistake_of_ours_ends_the_other_process_too(run: Scenario) -> None:
    folder = run("bug")
    assert found(folder, "bug") == [2, 2]
    assert said(folder, "bug", 1).endswith("ZeroDivisionError: a mistake of ours\n")
    assert "process 0 lost the others" in said(folder, "bug", 0)


@pytest.mark.slow
def test_another_number_of_processes_is_refused_inside_an_epoch(run: Scenario) -> None:
    folder = run("other_number")
    assert found(folder, "other") == 2
    text = (folder / "other.txt").read_text()
    assert "was written inside an epoch that 2 processes share, and 1 is here: start 2" in text
