"""Thousands of steps: does memory stay, does the speed stay?

    python -m benchmarks.soak [--steps 5000] [--csv FILE] [RECIPE ...]

Trains each recipe (plif/digits, ide/digits) as `spikeloom train` does, in a process of its own,
with a checkpoint every 100 steps, and looks at it from outside: resident memory from /proc, steps
from metrics.jsonl. One row for every 250 steps:

    recipe, step, seconds, rss_mb, steps_per_second, cpu_ms_per_step, and the machine with its load

The speeds are those of these 250 steps, evaluations and checkpoints included. The CPU time is what
a busy machine changes least.
"""

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.timing import machine

EVERY = 250
LOGGED = 10
PERIOD = 0.1  # seconds between looks


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipes", nargs="*", default=["plif/digits", "ide/digits"])
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    rows: list[dict[str, object]] = []
    command = shlex.join(["python", "-m", "benchmarks.soak", *sys.argv[1:]])
    facts = machine() | {"threads": "1", "command": command}
    for recipe in given.recipes:
        found = [facts | row for row in soak(recipe, given.steps)]
        rows += found
        print(summary(recipe, found))
    if given.csv:
        given.csv.parent.mkdir(parents=True, exist_ok=True)
        with open(given.csv, "w", newline="") as file:
            columns = [*(key for key in rows[0] if key not in facts), *facts]
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def soak(recipe: str, steps: int) -> list[dict[str, object]]:
    """Trains at least `steps` steps of 44 an epoch and samples the process."""
    epochs = -(-steps // 44)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "spikeloom", "train", recipe, "--out", str(run)),
                *(f"epochs={epochs}", f"logging.every_steps={LOGGED}"),
                *("checkpoint.every_steps=100", "threads=1"),
            ],
            stdout=subprocess.DEVNULL,
        )
        rows: list[dict[str, object]] = []
        began, before = time.monotonic(), (0, 0.0, 0.0)
        while process.poll() is None and len(rows) < steps // EVERY:
            time.sleep(PERIOD)
            step = last_step(run / "metrics.jsonl")
            if step < EVERY * (len(rows) + 1):
                continue
            now = (step, time.monotonic() - began, cpu_seconds(process.pid))
            count, seconds, cpu = (a - b for a, b in zip(now, before, strict=True))
            before = now
            rows.append(
                {
                    "recipe": recipe,
                    "step": step,
                    "seconds": round(now[1], 1),
                    "rss_mb": round(resident(process.pid) / 1e6, 1),
                    "steps_per_second": round(count / seconds, 2),
                    "cpu_ms_per_step": round(1000 * cpu / count, 3),
                    "load": f"{os.getloadavg()[0]:.1f}",
                }
            )
        process.terminate()
        if process.wait() not in (0, None):
            sys.exit(f"{recipe} ended with status {process.returncode}")
    return rows


def last_step(record: Path) -> int:
    """Optimizer steps done, as far as the record says."""
    if not record.exists():
        return 0
    with open(record, "rb") as file:
        file.seek(max(record.stat().st_size - 4096, 0))
        lines = file.read().split(b"\n")[1:-1]
    events = [json.loads(line) for line in lines if line.startswith(b'{"event": "step"')]
    return events[-1]["step"] if events else 0


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def summary(recipe: str, rows: list[dict[str, object]]) -> str:
    """The second fifth of the run, which has warmed up, beside the last fifth."""
    part = len(rows) // 5
    early, late = rows[part : 2 * part], rows[-part:]

    def mean(some: list[dict[str, object]], key: str) -> float:
        return sum(float(str(row[key])) for row in some) / len(some)

    text = ", ".join(
        f"{key} {mean(early, key):.2f} -> {mean(late, key):.2f}"
        for key in ("rss_mb", "steps_per_second", "cpu_ms_per_step")
    )
    return f"{recipe}: {rows[-1]['step']} steps in {rows[-1]['seconds']} s: {text}"


if __name__ == "__main__":
    main()
