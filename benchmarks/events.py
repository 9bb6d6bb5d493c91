"""Events to frames and reading prepared frames, against tonic where it is installed.

tonic (GPL-3.0) is no dependency: it is imported here by name, only to be measured beside us, and
only figures of frames that equal ours are given a ratio.
"""

import importlib
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import best_of
from spikeloom.data.events.array import Events, events
from spikeloom.data.events.cache import prepared
from spikeloom.data.events.frames import By, Framing, integrate
from spikeloom.data.events.splits import Recordings

CASES = ((200_000, 128, 16), (4_000, 34, 10))
"""(events, side of the sensor, frames): a DVS128 recording, an N-MNIST one."""

READS = 200
CUTS: tuple[tuple[By, str], ...] = (("number", "n_event_bins"), ("time", "n_time_bins"))


class MadeRecordings(Recordings):
    """Recordings of N-MNIST's size, made from their index."""

    labels = np.arange(READS) % 10
    size = (2, 34, 34)

    def fingerprint(self) -> str:
        return "made for the benchmark"

    def title(self, index: int) -> str:
        return str(index)

    def read(self, index: int) -> Events:
        return _made(4_000, 34, index)


def measure(rounds: int) -> list[dict[str, object]]:
    """A row for each way of cutting each case, and one for reading prepared samples."""
    peer = importlib.util.find_spec("tonic") and importlib.import_module("tonic")
    rows: list[dict[str, object]] = []
    for count, side, T in CASES:
        recording = _made(count, side, 0)
        for by, option in CUTS:
            framing = Framing(T, by)
            contenders: list[Any] = [lambda r=recording, f=framing: integrate(r, f).counts]
            if peer:
                theirs = peer.transforms.ToFrame((side, side, 2), **{option: T})
                table = _structured(recording)
                contenders.append(lambda to=theirs, t=table: to(t))
            what = f"{count:,} events, {side}x{side}, T = {T}, by {by}"
            rows.append(_row(what, contenders, rounds))
    rows.append(_reading(peer, rounds))
    return rows


def _reading(peer: Any, rounds: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        recordings, framing = MadeRecordings(), Framing(10)
        ours = prepared("bench-train", recordings, framing, workers=1, root=Path(folder) / "ours")
        order = np.random.default_rng(1).permutation(READS)
        contenders: list[Any] = [lambda: [ours.read(order[k : k + 1])[:, 0] for k in range(READS)]]
        if peer:
            counts = [(recordings.frames(k, framing).counts, 0) for k in range(READS)]
            cached = peer.DiskCachedDataset(counts, cache_path=str(Path(folder) / "theirs"))
            contenders.append(lambda: [cached[int(k)][0] for k in order])
        return _row(f"reading {READS} prepared samples 10x2x34x34", contenders, rounds)


def _row(what: str, contenders: list[Any], rounds: int) -> dict[str, object]:
    results = [np.asarray(contender()) for contender in contenders]
    seconds = best_of(contenders, rounds)
    row: dict[str, object] = {"what": what, "ms": round(seconds[0] * 1000, 4)}
    if len(contenders) == 2:
        row["tonic_ms"] = round(seconds[1] * 1000, 4)
        lost = int(results[0].sum()) - int(results[1].sum())
        equal = np.array_equal(results[0], results[1])
        row["ratio"] = round(seconds[1] / seconds[0], 1) if equal or lost else ""
        row["note"] = "equal" if equal else f"tonic loses {lost} events"
    return row


def _made(count: int, side: int, seed: int) -> Events:
    draw = np.random.default_rng(seed)
    t = np.sort(draw.integers(0, 1_500_000, count))
    x, y = draw.integers(0, side, (2, count))
    return events(t, x, y, draw.integers(0, 2, count), (2, side, side))


def _structured(recording: Events) -> np.ndarray:
    kinds = [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "<i2")]
    table = np.zeros(len(recording), dtype=kinds)
    for name in "xytp":
        table[name] = getattr(recording, name)
    return table
