"""Five ways to train one: every method on the digits, or MNIST, in one table and one picture.

python five_ways.py [digits | mnist] [override ...]       e.g. digits epochs=2
Digits come to first-spike coding through a made event camera; a pixel of MNIST is one spike.
Each training is a process of its own: time and memory are those of one method, import included.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from matplotlib.figure import Figure

from spikeloom.training import evaluate, read_events

SHORT = "epochs=3 T_max=3 threads=1"
DIGITS = {"PLIF": "plif/digits", "GLIF": "glif/digits", "IDE": "ide/digits", "DSR": "dsr/digits"}
DIGITS["FS"] = "fs/digits-events"
MNIST = {
    "PLIF": f"plif/mnist T=4 channels=16 hidden=256 lr=2e-3 batch_size=64 {SHORT}",
    "GLIF": f"glif/mnist warmup_steps=100 {SHORT}",
    "IDE": f"ide/mnist-f64c5 channels=[16] schedule=cosine {SHORT}",
    "DSR": f"dsr/mnist warmup_steps=100 {SHORT}",
    "FS": f"fs/mnist {SHORT}",
}
WAYS = {"digits": DIGITS, "mnist": MNIST}
COLUMNS = ("accuracy B, %", "spikes a neuron", "1000 operations", "energy, nJ", "CPU seconds", "MB")


def measure(recipe: str, changes: list[str]) -> list[float]:
    name, *own = recipe.split()
    given = {change.split("=")[0]: change for change in [*own, "protocol=B", *changes]}
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        command = [sys.executable, "-m", "spikeloom", "train", name, *given.values(), "--out", run]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        end, found = list(read_events(run / "metrics.jsonl"))[-1], evaluate(run)
    work = found.operations
    costs = [(work.accumulates + work.multiplies) / 1e3, work.picojoule / 1e3]
    told = [100 * found.accuracy, found.spikes_per_neuron, *costs]
    return [*told, end["cpu_seconds"], end["peak_memory_mb"]]


def main(data: str = "digits", *changes: str, out: Path = Path("five-ways.png")) -> dict:
    rows = {way: measure(recipe, list(changes)) for way, recipe in WAYS[data].items()}
    figure = Figure(figsize=(10, 5), layout="constrained")
    for column, title in enumerate(COLUMNS):
        axes = figure.add_subplot(2, 3, column + 1, title=title, ymargin=0.15)
        axes.bar_label(axes.bar(list(rows), [row[column] for row in rows.values()]), fmt="{:,.4g}")
    figure.savefig(out, dpi=100)
    print("| | " + " | ".join(COLUMNS) + " |\n|---|" + "---:|" * len(COLUMNS))
    for way, values in rows.items():
        print(f"| {way} | " + " | ".join(f"{value:,.2f}" for value in values) + " |")
    return rows


if __name__ == "__main__":
    main(*sys.argv[1:])
