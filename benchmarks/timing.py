"""How everything here is timed, and what is written beside each figure."""

import csv
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from spikeloom import files
from spikeloom.run.folder import processor

Run = Callable[[], object]
Clock = Literal["wall", "cpu time", "cuda events"]

CUDA_SECONDS = 0.005
"""A measurement on a GPU repeats what it measures until it lasts about this long."""


class Timing(NamedTuple):
    """Seconds of the fastest run and of the middle one."""

    best: float
    median: float


def clock_name(device: torch.device | str = "cpu") -> Clock:
    """The clock that times are read from.

    On CUDA the device's own, between two events, with nothing else in its queue. On a CPU with one
    thread the time that the process used: what an idle core would take, to which others that use
    the core add nothing. With more threads the wall's.
    """
    if torch.device(device).type == "cuda":
        return "cuda events"
    return "cpu time" if torch.get_num_threads() == 1 else "wall"


def timings(contenders: Sequence[Run], rounds: int, clock: Clock) -> list[Timing]:
    """Times of `rounds` runs of each contender.

    Contenders take turns, so that a slow phase of the machine hits all of them; one run each goes
    first, uncounted, and compiles what there is to compile.
    """
    measure = _CLOCKS[clock]
    counts = []
    for contender in contenders:
        contender()
        once = measure(contender, 1)
        long_enough = int(CUDA_SECONDS / max(once, 1e-6)) if clock == "cuda events" else 1
        counts.append(max(1, min(100, long_enough)))
    seconds: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds):
        for contender, count, found in zip(contenders, counts, seconds, strict=True):
            found.append(measure(contender, count))
    return [Timing(min(found), statistics.median(found)) for found in seconds]


def best_of(contenders: Sequence[Run], rounds: int = 9) -> list[float]:
    """Seconds on the wall's clock of the fastest of `rounds` runs of each contender."""
    return [timing.best for timing in timings(contenders, rounds, "wall")]


def _wall(run: Run, count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - begin) / count


def _cpu_time(run: Run, count: int) -> float:
    begin = time.process_time()
    for _ in range(count):
        run()
    return (time.process_time() - begin) / count


def _cuda_events(run: Run, count: int) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    for _ in range(count):
        run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000 / count


_CLOCKS: dict[Clock, Callable[[Run, int], float]] = {
    "wall": _wall,
    "cpu time": _cpu_time,
    "cuda events": _cuda_events,
}


def machine(device: torch.device | str = "cpu") -> dict[str, str]:
    """What a figure depends on besides the code: processor, versions, threads, load, command."""
    found = {
        "cpu": processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    for package in ("numba", "triton"):
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    if torch.device(device).type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["cuda"] = str(torch.version.cuda)
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    found["command"] = shlex.join(["python", "-m", "benchmarks", *words])
    return found


def write_csv(
    path: Path, rows: Sequence[dict[str, object]], device: torch.device | str = "cpu"
) -> None:
    """The rows, each with the machine's columns behind its own; written beside and renamed."""
    surroundings = machine(device)
    own = dict.fromkeys(column for row in rows for column in row)
    columns = [*own, *(column for column in surroundings if column not in own)]
    with (
        files.replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(surroundings | row for row in rows)


def add_to_csv(
    path: Path,
    rows: Sequence[dict[str, object]],
    case: Sequence[str],
    device: torch.device | str = "cpu",
) -> None:
    """Add rows to the file, in place of older ones with the same values in the columns `case`;
    each keeps what it was measured on."""
    old: list[dict[str, object]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            old = [dict(each) for each in csv.DictReader(file)]

    def key(row: dict[str, object]) -> list[str]:
        return [str(row.get(column, "")) for column in case]

    surroundings = machine(device)
    new = [key(surroundings | row) for row in rows]
    write_csv(path, [*(each for each in old if key(each) not in new), *rows], device)
