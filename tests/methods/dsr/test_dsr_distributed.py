"""Thresholds learn the same from a batch in one process and from its halves in two."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import threshold_process as process
import torch
from torch import Tensor

Outcome = dict[str, dict[str, Tensor]]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("processes")
    meeting, result = folder / "meeting", folder / "result.pt"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(process.__file__))]
    running = [
        subprocess.Popen(
            [*command, str(rank), "2", str(meeting), str(result)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for one in running:
        _, errors = one.communicate(timeout=120)
        assert one.returncode == 0, errors
    return torch.load(result, weights_only=True)


@pytest.fixture(scope="module")
def one_process() -> Outcome:
    classifier = process.network("mean")
    process.step(classifier, classifier, *process.batch())
    return process.outcome(classifier)


@pytest.mark.distributed
def test_a_step_of_two_processes_is_that_of_one_with_the_whole_batch(
    two_processes: dict[str, Outcome], one_process: Outcome
) -> None:
    thresholds = [name for name in one_process["gradients"] if name.endswith("threshold")]
    assert len(thresholds) == 7
    assert sum(bool(one_process["gradients"][name]) for name in thresholds) >= 5
    for what in ("gradients", "weights"):
        torch.testing.assert_close(
            two_processes["mean"][what], one_process[what], rtol=1e-9, atol=1e-12
        )


@pytest.mark.distributed
def test_the_published_sum_is_as_many_times_larger_as_there_are_processes(
    two_processes: dict[str, Outcome], one_process: Outcome
) -> None:
    expected = {
        name: gradient * 2 if name.endswith("threshold") else gradient
        for name, gradient in one_process["gradients"].items()
    }
    torch.testing.assert_close(two_processes["sum"]["gradients"], expected, rtol=1e-9, atol=1e-12)
