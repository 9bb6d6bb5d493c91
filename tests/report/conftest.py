"""Run folders made up for the tests: no training, every file as the trainer writes it."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

RECIPE = """\
title = "PLIF on <digits> & more"
method = "plif"
seed = 2020
published = {{A = 99.5, B = 98.0}}
notes = "A remark."

[data]
name = "{data}"
batch_size = 32

[network]
T = 8
tau = 2.0

[training]
epochs = {epochs}

[protocol]
name = "{protocol}"
"""

LAYERS = ("stages.0.neuron", "stages.1.neuron", "head.2", "head.5")
RunMaker = Callable[..., Path]


def epoch_record(epoch: int, *, protocol: str, spread: float) -> dict[str, object]:
    """One line of metrics.jsonl, with curves as training gives them."""
    accuracy = 0.985 - 0.5 * math.exp(-epoch / 3)
    constants = {
        f"{layer}/tau": {
            "mean": 2 + index**3 * (1 - math.exp(-epoch / 6)),
            "min": (2 + index**3 * (1 - math.exp(-epoch / 6))) * (1 - spread),
            "max": (2 + index**3 * (1 - math.exp(-epoch / 6))) * (1 + spread),
        }
        for index, layer in enumerate(LAYERS)
    }
    test = {
        "loss": 0.1 * math.exp(-epoch / 4) + 0.004,
        "accuracy": accuracy,
        "firing_rates": {layer: 0.2 / (i + 1) for i, layer in enumerate(LAYERS)},
    }
    metric = "test accuracy" if protocol == "A" else "validation accuracy"
    return {
        "event": "epoch",
        "epoch": epoch,
        "step": 44 * (epoch + 1),
        "lr": 1e-3 * (1 + math.cos(math.pi * epoch / 64)) / 2,
        "train_loss": 0.1 * math.exp(-epoch / 4) + 0.001,
        "train_accuracy": accuracy + 0.01,
        "seconds": 1.25,
        "constants": constants,
        "scalars": {"w0": 0.1 * epoch, "w1": 0.2 * epoch, "solver residual": 10.0 ** -(epoch + 2)},
        "test": test,
        "val": None if protocol == "A" else test,
        "best": {
            "epoch": epoch,
            "metric": metric,
            "value": accuracy,
            "test_accuracy": accuracy,
        },
    }


@pytest.fixture
def make_run(tmp_path: Path) -> RunMaker:
    """`make_run(name, epochs=.., protocol=.., finished=.., spread=.., data=..)` -> its folder."""

    def make(
        name: str = "plif-digits/1",
        *,
        epochs: int = 20,
        protocol: str = "A",
        finished: bool = True,
        spread: float = 0.0,
        data: str = "no-such-data",
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        text = RECIPE.format(epochs=epochs, protocol=protocol, data=data)
        (folder / "recipe.toml").write_text(text)
        (folder / "environment.json").write_text(
            json.dumps({"python": "3.11.2", "torch": "2.13.0", "processor": "<one & only>"})
        )
        events: list[dict[str, object]] = [
            {
                "event": "start",
                "method": "plif",
                "parameters": 13198980,
                "train_samples": 1438,
                "test_samples": 359,
            },
            {
                "event": "step",
                "epoch": 0,
                "step": 0,
                "loss": 0.1,
                "accuracy": 0.125,
                "lr": 1e-3,
            },
        ]
        done = epochs if finished else epochs // 2
        events += [epoch_record(e, protocol=protocol, spread=spread) for e in range(done)]
        if finished:
            confusion = [
                [30 if i == j else int((i + j) % 7 == 0) for j in range(10)] for i in range(10)
            ]
            best = events[-1]["best"]
            events.append({"event": "end", "best": best, "confusion": confusion, "seconds": 25.5})
        lines = "".join(json.dumps(event) + "\n" for event in events)
        (folder / "metrics.jsonl").write_text(lines)
        return folder

    return make
