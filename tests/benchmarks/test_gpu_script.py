"""`benchmarks/gpu.sh` is whole: its reduced form runs here, and its table says what it found."""

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

import pytest
import torch

from benchmarks import summary
from benchmarks.timing import write_csv
from spikeloom import __version__
from spikeloom.run import folder as run_folder

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script() -> ModuleType:
    return summary


def case(**columns: object) -> dict[str, object]:
    shared = {"subject": "PLIF", "shape": "4x2x8", "dtype": "float32", "layout": "contiguous"}
    return shared | {"note": ""} | columns


def test_table_answers_from_the_files(script: ModuleType, tmp_path: Path) -> None:
    wrong = case(dtype="bfloat16", gradient_error="0.5", note="wrong: the gradient of x is off")
    write_csv(tmp_path / "agreement.csv", [case(gradient_error="2.0e-07"), wrong])
    ours = {"forward_share": 0.9, "backward_share": 0.8, "copy_gb_per_second": 4000}
    write_csv(
        tmp_path / "neurons.csv",
        [
            case(contender="spikeloom", training_copies=3.0, **ours),
            case(contender="eager", training_copies=30.0),
            case(contender="norse", note="absent: has no such neuron"),
        ],
    )
    write_csv(
        tmp_path / "training.csv",
        [
            case(subject="plif/mnist", contender="relu", step_ms=10.0),
            case(subject="plif/mnist", contender="spikeloom", step_ms=11.0, times_relu=1.1),
        ],
    )
    write_csv(
        tmp_path / "linear.csv",
        [case(contender="spikeloom", note="not timed: 3.00% of its spikes differ")],
    )
    run = tmp_path / "run-plif"
    run.mkdir()
    epoch = {"event": "epoch", "test": {"accuracy": 0.97}, "seconds": 2.0}
    (run / "metrics.jsonl").write_text(json.dumps(epoch), "utf-8")
    lines = dict(script.summary(tmp_path))
    assert lines["kernels that agree with float64 on the CPU"].startswith("1 of 2")
    assert "gradient of x is off" in lines["  PLIF 4x2x8 bfloat16 contiguous"]
    assert lines["trained plif, 1 epochs"] == "best test accuracy 97.00%; 2.0 s an epoch"
    layer = lines["PLIF [4x2x8] float32"]
    assert layer.startswith("90% of copy bandwidth forward, 80% backward")
    assert layer.endswith("eager 10.0x")
    assert lines["step of plif/mnist [4x2x8] float32"].startswith("11.0 ms, 1.1 times ReLU")
    assert "spikes differ" in lines["linear + LIF [4x2x8] float32"]


def test_an_empty_folder_has_an_empty_table(script: ModuleType, tmp_path: Path) -> None:
    assert list(script.summary(tmp_path)) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_reduced_form_runs_from_end_to_end(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [SCRIPTS / "gpu.sh", tmp_path / "results"],
        env=environment | {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    stages = (tmp_path / "results" / "stages.txt").read_text("utf-8").splitlines()
    names = ["agreement", "train-plif", "neurons", "training", "linear"]
    assert [line.partition(":")[0] for line in stages] == names
    assert all(": done in" in line for line in stages), stages
    agreement = next(line for line in done.stdout.splitlines() if "kernels that agree" in line)
    agreeing, of = agreement.split(";")[0].split()[-3::2]
    assert agreeing == of
    for name in ("agreement", "neurons", "training", "linear"):
        assert (tmp_path / "results" / f"{name}.csv").stat().st_size > 0


def test_training_from_the_source_folder_needs_no_installed_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> str:
        if name == "spikeloom":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(run_folder, "version", missing)
    assert run_folder.environment(torch.device("cpu"))["spikeloom"] == __version__
