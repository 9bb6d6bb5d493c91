"""The parts (files of frames) that a data set is prepared in: written here, or by a pool of
processes, which import neither torch nor the command line.
"""

import os
import pickle
import sys
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikeloom.data.api import Progress
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
    totals = dict.fromkeys(("there", "kept", "empty", "unsorted"), 0)
    for place, row in enumerate(rows):
        try:
            frames = recordings.frames(row, framing)
        except DataError as error:
            damaged.append((row, str(error)))
            if len(damaged) >= MOST_DAMAGED:
                break
            continue
        totals["there"] += frames.total
        totals["kept"] += frames.counted
        totals["empty"] += not frames.counted
        totals["unsorted"] += not frames.in_order
        if frames.counts.dtype.itemsize > counts.dtype.itemsize:
            counts = counts.astype(frames.counts.dtype)
        counts[place] = frames.counts
        durations[place] = frames.durations
    path = folder / part_name(index)
    with writing(path, "frames"):
        np.save(path, counts)
    return {
        "index": index,
        "bytes": path.stat().st_size,
        "crc": zlib.crc32(path.read_bytes()),
        "largest": int(counts.max(initial=0)),
        "durations": durations,
        "rows": len(rows),
        "events": totals,
        "damaged": damaged,
    }


@contextmanager
def writing(path: Path, content: str) -> Iterator[None]:
    """Around writing `content` to `path`: a failure is a `DataError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: {content} cannot be written ({error.strerror or error}); free some space, or "
            "name another place with $SPIKELOOM_CACHE"
        ) from error


def write_parts(
    folder: Path,
    per_part: int,
    recordings: Recordings,
    framing: Framing,
    workers: int | None,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    """Write every part with `write_part`, on `workers` processes (None: all usable cores)."""
    count = len(recordings.labels)
    calls = [(folder, i, per_part, recordings, framing) for i in range(-(-count // per_part))]
    processes = min(workers or usable_cores(), len(calls))
    alone = processes <= 1 or not _can_travel(recordings)
    made = (write_part(*call) for call in calls) if alone else _in_pool(processes, calls)
    parts = []
    for part in made:
        parts.append(part)
        if progress:
            progress(sum(part["rows"] for part in parts), count)
    return sorted(parts, key=lambda part: part["index"])


def _in_pool(processes: int, calls: list[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """What `write_part` says in each of the `calls`, the first that is ready first."""
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _end_with_parent)
    try:
        with _main_left_alone():
            futures = [pool.submit(write_part, *call) for call in calls]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise DataError(
            "a process that prepares frames ended; was it killed, or is the memory full?"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _end_with_parent() -> None:
    """In each worker: end when the parent does, however that ended."""
    parent = parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def _main_left_alone() -> Iterator[None]:
    """While processes start: they would run the user's script again, which needs no guard so."""
    main = sys.modules["__main__"].__dict__
    saved = {name: main[name] for name in ("__spec__", "__file__") if name in main}
    main["__spec__"] = None
    main.pop("__file__", None)
    try:
        yield
    finally:
        main.update(saved)


def _can_travel(recordings: Recordings) -> bool:
    """Whether another process could load them: not what a user's own main script defines."""
    try:
        return b"__main__" not in pickle.dumps(recordings)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
