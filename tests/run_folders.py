"""Whether two run folders hold the same training."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from spikeloom.run.checkpoint import read
from spikeloom.training import read_events


def assert_same_run(a: Path, b: Path) -> None:
    """Both run folders hold the same training: every tensor bit for bit, every recorded number."""
    for name in ("last", "best"):
        one, two = (read(path / "checkpoints" / f"{name}.pt") for path in (a, b))
        one_flat, two_flat = dict(flat(one)), dict(flat(two))
        assert one_flat.keys() == two_flat.keys()
        for key, value in one_flat.items():
            if "seconds" in key or key == "/metrics_bytes":
                continue
            other = two_flat[key]
            same = torch.equal(value, other) if isinstance(value, Tensor) else value == other
            assert same, f"{name}.pt{key}: {value} and {other}"
    weights = [load_file(path / "weights.safetensors") for path in (a, b)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert recorded(a) == recorded(b)


def recorded(folder: Path) -> list[dict[str, Any]]:
    """The events in metrics.jsonl without wall times."""
    events = read_events(folder / "metrics.jsonl")
    assert all(json.loads(json.dumps(event)) == event for event in events)
    return [
        {k: v for k, v in event.items() if k not in ("seconds", "cpu_seconds", "peak_memory_mb")}
        for event in events
    ]


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from flat(item, f"{path}/{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from flat(item, f"{path}/{index}")
    else:
        yield path, value


def scalars(run: Path) -> set[tuple[str, int]]:
    """(tag, x) with the value's bits, of all TensorBoard files of a run; wall times left out."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    found = set()
    for path in (run / "tensorboard").iterdir():
        for raw in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(raw)
            for value in event.summary.value:
                found.add((value.tag, event.step))
                if value.tag != "seconds":
                    found.add((value.tag, event.step, value.simple_value))
    return found
