"""One file of prepared frames: the counts of some recordings, as `cache` keeps them."""

import contextlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikeloom.data.events.frames import Framing
from spikeloom.data.events.splits import Recordings
from spikeloom.errors import DataError

MOST_DAMAGED = 1000  # in one part; beyond it something else is wrong


def part_name(index: int) -> str:
    """The file of part number `index`."""
    return f"part-{index:05d}.npy"


def write_part(
    folder: Path, index: int, per_part: int, recordings: Recordings, framing: Framing
) -> dict[str, Any]:
    """Integrate the recordings of part `index` into one file; what `meta.json` says about it."""
    rows = range(index * per_part, min((index + 1) * per_part, len(recordings.labels)))
    counts: npt.NDArray[Any] = np.zeros((len(rows), *framing.shape(recordings.size)), np.uint8)
    durations = np.ones((len(rows), framing.steps))
    damaged: list[tuple[int, str]] = []
    told = dict.fromkeys(("there", "kept", "empty", "unsorted"), 0)
    for place, row in enumerate(rows):
        try:
            frames = recordings.frames(row, framing)
        except DataError as error:
            damaged.append((row, str(error)))
            if len(damaged) >= MOST_DAMAGED:
                break
            continue
        told["there"] += frames.there
        told["kept"] += frames.kept
        told["empty"] += not frames.kept
        told["unsorted"] += not frames.in_order
        if frames.counts.dtype.itemsize > counts.dtype.itemsize:
            counts = counts.astype(frames.counts.dtype)
        counts[place] = frames.counts
        durations[place] = frames.durations
    path = folder / part_name(index)
    with writing(path, "frames"):
        np.save(path, counts)
    return {
        "bytes": path.stat().st_size,
        "crc": zlib.crc32(path.read_bytes()),
        "largest": int(counts.max(initial=0)),
        "durations": durations,
        "rows": len(rows),
        "events": told,
        "damaged": damaged,
    }


@contextlib.contextmanager
def writing(path: Path, what: str) -> Iterator[None]:
    """Around writing `what` to `path`: a failure is a `DataError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: {what} cannot be written ({error.strerror or error}); free some space, or "
            "name another place with $SPIKELOOM_CACHE"
        ) from error
