"""Frames prepared by a pool of processes, which import neither torch nor the command line."""

import os
import pickle
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from spikeloom.data.api import Progress
from spikeloom.data.events.frames import Framing
from spikeloom.data.events.parts import write_part
from spikeloom.data.events.splits import Recordings
from spikeloom.errors import DataError


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
    indices = range(-(-count // per_part))
    processes = min(workers or usable_cores(), len(indices))
    done = 0
    parts: dict[int, dict[str, Any]] = {}

    def finished(index: int, part: dict[str, Any]) -> None:
        nonlocal done
        parts[index] = part
        done += part["rows"]
        if progress:
            progress(done, count)

    if processes <= 1 or not _can_travel(recordings):
        for index in indices:
            finished(index, write_part(folder, index, per_part, recordings, framing))
        return [parts[index] for index in indices]
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _end_with_parent)
    try:
        with _main_left_alone():
            futures: dict[Future[dict[str, Any]], int] = {
                pool.submit(write_part, folder, index, per_part, recordings, framing): index
                for index in indices
            }
        for future in as_completed(futures):
            finished(futures[future], future.result())
    except BrokenProcessPool as error:
        raise DataError(
            "a process that prepares frames ended; was it killed, or is the memory full?"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
    return [parts[index] for index in indices]


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
    kept = {name: main[name] for name in ("__spec__", "__file__") if name in main}
    main["__spec__"] = None
    main.pop("__file__", None)
    try:
        yield
    finally:
        main.update(kept)


def _can_travel(recordings: Recordings) -> bool:
    """Whether another process could load them: not what a user's own main script defines."""
    try:
        return b"__main__" not in pickle.dumps(recordings)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
