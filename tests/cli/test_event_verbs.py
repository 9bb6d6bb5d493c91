"""`spikeloom data` on event data: list, prepare, check, show, get, clear."""

import json
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Run

import event_files as make
from spikeloom.data.events.camera import Camera


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKELOOM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def nmnist(tmp_path: Path) -> Path:
    """Two recordings of each split in N-MNIST's layout, below a data root."""
    images = np.random.default_rng(0).random((2, 20, 20))
    for split in ("Train", "Test"):
        make.write_nmnist(tmp_path / "NMNIST", split, Camera().record(images, 0), [4, 9])
    return tmp_path


def _prepared(run: Run, name: str) -> int:
    return next(
        one["prepared"]
        for one in json.loads(run("data", "list", "--json").out)
        if one["name"] == name
    )


def test_frames_are_prepared_listed_and_cleared(run: Run, nmnist: Path):
    assert _prepared(run, "nmnist") == 0
    done = run("data", "prepare", "nmnist", "--root", str(nmnist))
    assert done.code == 0
    assert done.out.startswith("nmnist: 2 + 2 recordings as frames 10x2x34x34, 0.1 MB in ")
    usual = _prepared(run, "nmnist")
    own = run("data", "prepare", "plif/nmnist", "T=3", "by=time", "--root", str(nmnist))
    assert own.out.startswith("nmnist: 2 + 2 recordings as frames 3x2x34x34")
    assert _prepared(run, "nmnist") > usual > 4 * 10 * 2 * 34 * 34
    assert run("data", "clear", "nmnist").out.startswith("0.1 MB freed")
    assert _prepared(run, "nmnist") == 0


def test_recordings_are_checked(run: Run, nmnist: Path):
    done = run("data", "check", "nmnist", "--root", str(nmnist))
    assert done.code == 0
    assert "train: 2 samples of 10x2x34x34" in done.out
    assert "note: nmnist train: 2 samples, the publisher has 60,000" in done.out


def test_a_damaged_recording_is_named(run: Run, nmnist: Path):
    path = nmnist / "NMNIST" / "Train" / "4" / "00001.bin"
    path.write_bytes(path.read_bytes()[:-2])
    done = run("data", "prepare", "nmnist", "--root", str(nmnist))
    assert done.code == 2 and str(path) in done.err and "cut short after record" in done.err
    assert len(done.err.strip().splitlines()) <= 2


def test_a_recording_is_drawn(run: Run, nmnist: Path):
    done = run("data", "show", "nmnist", "--index", "1", "--root", str(nmnist), "--out", "pictures")
    assert done.code == 0 and done.out.startswith("nmnist train 1: 9, ")
    assert sorted(path.name for path in Path("pictures").iterdir()) == [
        "nmnist-train-1.gif",
        "nmnist-train-1.png",
    ]
    assert run("data", "show", "nmnist", "--index", "7", "--root", str(nmnist)).code == 2


def test_what_cannot_be_downloaded_names_the_manual_step(run: Run):
    done = run("data", "get", "dvs128-gesture")
    assert done.code == 2 and "research.ibm.com/dvsgesture" in done.err


def test_overrides_need_a_recipe(run: Run):
    done = run("data", "prepare", "nmnist", "T=3")
    assert done.code == 2 and "give a recipe" in done.err


def test_an_unknown_data_set_is_told_with_the_nearest(run: Run):
    for verb in ("get", "show", "clear", "prepare"):
        done = run("data", verb, "nmnst")
        assert done.code == 2 and "nmnist" in done.err
