"""Five ways to train one: every method on the digits, or MNIST, side by side in one picture.

python five_ways.py [digits | mnist] [override ...]       e.g. digits epochs=2

Writes five-ways-DATA.png, and a table in Markdown. Digits come to first-spike coding through a made
event camera; MNIST's pixels become single spikes, the brighter the earlier.
Each training is a process of its own: time and memory are those of one method, for its
training with the evaluations on the way.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from matplotlib.figure import Figure

import spikeloom as sl

SHORT = "epochs=3 T_max=3 threads=1"
WAYS = {
    "digits": {
        "PLIF": "plif/digits",
        "GLIF": "glif/digits",
        "IDE": "ide/digits",
        "DSR": "dsr/digits",
        "FS": "fs/digits-events",
    },
    "mnist": {
        "PLIF": f"plif/mnist T=4 channels=16 hidden=256 lr=2e-3 batch_size=64 {SHORT}",
        "GLIF": f"glif/mnist warmup_steps=100 {SHORT}",
        "IDE": f"ide/mnist-f64c5 channels=[16] schedule=cosine {SHORT}",
        "DSR": f"dsr/mnist warmup_steps=100 {SHORT}",
        "FS": f"fs/mnist {SHORT}",
    },
}
COLUMNS = (
    "accuracy B, %",
    "spikes a neuron",
    "operations, 1000",
    "energy, nJ",
    "CPU seconds",
    "MB",
)


def measure(recipe: str, changes: list[str]) -> list[float]:
    name, *own = recipe.split()
    given = {change.split("=")[0]: change for change in [*own, "protocol=B", *changes]}
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        command = [sys.executable, "-m", "spikeloom", "train", name, *given.values(), "--out", run]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        end = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
        found = sl.evaluate(run)
    work, spent = found.operations, [end["cpu_seconds"], end["peak_memory_mb"]]
    costs = [(work.accumulates + work.multiplies) / 1e3, work.picojoule / 1e3]
    return [100 * found.accuracy, found.spikes_per_neuron, *costs, *spent]


def main(data: str = "digits", *changes: str, out: Path | None = None) -> dict:
    rows = {way: measure(recipe, list(changes)) for way, recipe in WAYS[data].items()}
    figure = Figure(figsize=(10, 5), layout="constrained")
    for column, title in enumerate(COLUMNS):
        axes = figure.add_subplot(2, 3, column + 1, title=title)
        axes.bar_label(axes.bar(list(rows), [row[column] for row in rows.values()]), fmt="%.3g")
    figure.savefig(out or f"five-ways-{data}.png", dpi=100)
    print("| | " + " | ".join(COLUMNS) + " |\n|---|" + "---:|" * len(COLUMNS))
    for way, values in rows.items():
        print(f"| {way} | " + " | ".join(f"{value:,.2f}" for value in values) + " |", flush=True)
    return rows


if __name__ == "__main__":
    main(*sys.argv[1:])
