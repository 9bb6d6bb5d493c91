"""How everything here is timed, and what is written beside each figure."""

import csv
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch


def best_of(contenders: Sequence[Callable[[], object]], rounds: int = 9) -> list[float]:
    """Seconds of the fastest of `rounds` runs of each contender.

    Contenders take turns, so that a slow phase of the machine hits all of them; one run each goes
    first, uncounted, and compiles what there is to compile.
    """
    for contender in contenders:
        contender()
    best = [float("inf")] * len(contenders)
    for _ in range(rounds):
        for index, contender in enumerate(contenders):
            begin = time.perf_counter()
            contender()
            best[index] = min(best[index], time.perf_counter() - begin)
    return best


def machine() -> dict[str, str]:
    """What a figure depends on besides the code: processor, versions, threads, command."""
    import numba

    return {
        "cpu": _processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": numba.__version__,
        "command": shlex.join(["spikeloom", *sys.argv[1:]]),
    }


def _processor() -> str:
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    level = torch.backends.cpu.get_cpu_capability()
    return f"{model} ({level})"


def write_csv(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """The rows, each with the machine's columns behind its own; written beside and renamed."""
    described = [row | machine() for row in rows]
    columns = list(dict.fromkeys(column for row in described for column in row))
    temporary = path.with_name(path.name + ".tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(described)
    os.replace(temporary, path)
