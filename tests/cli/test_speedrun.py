"""`spikeloom speedrun`: who has an entry, and what it says."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from cli_runner import Run

from spikeloom import speedrun
from spikeloom.evaluation.evaluation import evaluate
from spikeloom.methods.dsr.thresholds import facts_of
from spikeloom.run import reading

SMALL = ("T=1", "channels=2", "epochs=2", "batch_size=32", "evaluate_every=1", "callbacks=[]")
SMALL = (*SMALL, "val_ratio=0.2", "threads=1")


def test_a_run_becomes_an_entry_by_the_rules(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(1)
    data = tmp_path / "cifar-10-batches-bin"
    data.mkdir()
    for part in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        records = draw.integers(0, 256, (20, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(20) % 10  # the label comes before the pixels
        (data / f"{part}.bin").write_bytes(records.tobytes())
    monkeypatch.setenv("SPIKELOOM_DATA", str(tmp_path))
    place = tmp_path / "run"
    refused = run("speedrun", "plif", *SMALL, "--out", str(place))
    assert refused.code == 2 and "its data are not the whole of CIFAR-10" in refused.err

    monkeypatch.setattr(speedrun, "_TRAINING", 100)
    monkeypatch.setattr(speedrun, "_TEST", 20)
    refused = run("speedrun", str(place))
    assert "it held out less than 2,500 images" in refused.err
    monkeypatch.setattr(speedrun, "_HELD_OUT", 10)
    told = json.loads(run("speedrun", str(place), "--json").out)
    best = max(told["log"], key=lambda line: (line["validation"], -line["epoch"]))
    assert told["epoch"] == best["epoch"] and told["validation"] == best["validation"]
    assert told["accuracy"] == best["test"] == evaluate(place).accuracy
    assert told["mirrored"] == evaluate(place, mirrored=True).mirrored_accuracy
    assert min(told["cpu_seconds"], told["seconds"], told["spikes"]) > 0
    assert "--out" not in told["command"] and str(tmp_path) not in json.dumps(told)

    ann, hybrid = tmp_path / "ann", tmp_path / "hybrid"
    run("train", "dsr/cifar10-compact-ann", *SMALL, "--out", str(ann))
    thresholds = tmp_path / "thresholds.safetensors"
    files = f"ann={ann}", f"thresholds={thresholds}"
    measured = run("calibrate", str(ann), "--batches", "1", "--out", str(thresholds))
    assert measured.code == 0
    run("train", "dsr/cifar10-compact-hybrid", *SMALL, *files, "--out", str(hybrid))
    both = json.loads(run("speedrun", str(hybrid), "--json").out)
    ends = [reading.read(folder).end for folder in (ann, hybrid)]
    parts = [end.seconds or 0 for end in ends if end] + [float(facts_of(thresholds)["seconds"])]
    assert both["epochs"] == 4 and both["seconds"] == round(sum(parts), 1) and len(parts) == 3
    this = told["command"]  # of this process, whatever it runs
    assert both["command"] == f"{this} --out {ann} && {this} && {this}"

    other = tmp_path / "other"
    small = [text.replace("val_ratio=0.2", "val_ratio=0.3") for text in SMALL]
    run("train", "dsr/cifar10-compact-hybrid", *small, *files, "--out", str(other))
    refused = run("speedrun", str(other))
    assert refused.code == 2 and "its ANN was trained with another" in refused.err

    activations = safetensors.numpy.load_file(thresholds)
    safetensors.numpy.save_file(activations, thresholds)
    refused = run("speedrun", str(hybrid))
    assert refused.code != 0 and "write it with `spikeloom calibrate`" in refused.err

    monkeypatch.setattr(speedrun, "FOLDER", tmp_path / "records")
    speedrun.FOLDER.mkdir()
    (speedrun.FOLDER / "one.json").write_text(json.dumps(told))
    monkeypatch.setenv("COLUMNS", "250")
    table = run("speedrun").out
    assert f"{told['accuracy']:.2%}" in table and f"{told['parameters']:,}" in table


def test_the_committed_records_keep_the_rules() -> None:
    for entry in speedrun.entries():
        assert entry.training_samples <= 47_500 and entry.log[entry.epoch].test == entry.accuracy
        recipe = rf"\b(plif|glif|dsr|ide)/{speedrun.RECIPE}"
        assert "/" not in re.sub(recipe, "", entry.command)  # no path of a machine
