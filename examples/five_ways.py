"""Five ways to train one: every method on the digits, or MNIST, side by side in one picture.

python five_ways.py [digits | mnist] [override ...]       e.g. digits epochs=2

First-spike coding reads events, so it gets the digits before a made event camera, or N-MNIST.
Each training is a process of its own: time and memory are those of one method, import included.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from matplotlib.figure import Figure

import spikeloom as sl

SHORT = "epochs=2 T_max=2 batch_size=64 threads=1"
WAYS = {
    "digits": {"PLIF": "plif/digits", "GLIF": "glif/digits", "IDE": "ide/digits"}
    | {"DSR": "dsr/digits", "FS": "fs/digits-events"},
    "mnist": {"PLIF": f"plif/mnist T=4 channels=16 hidden=256 {SHORT}"}
    | {"GLIF": f"glif/digits data=mnist channels=8 {SHORT}"}
    | {"IDE": f"ide/digits data=mnist {SHORT}", "DSR": f"dsr/digits data=mnist {SHORT}"}
    | {"FS": "fs/digits-events data=nmnist dt=5 epochs=8 threads=1"},
}
COLUMNS = ("accuracy B, %", "spikes a neuron", "operations, 1000", "energy, nJ", "seconds", "MB")


def measure(recipe: str, changes: list[str]) -> list[float]:
    name, *own = recipe.split()
    given = {change.split("=")[0]: change for change in [*own, "protocol=B", *changes]}
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        command = [sys.executable, "-m", "spikeloom", "train", name, *given.values(), "--out", run]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        end = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
        found = sl.evaluate(run)
    work, spent = found.operations, [end["seconds"], end["peak_memory_mb"]]
    costs = [(work.accumulates + work.multiplies) / 1e3, work.picojoule / 1e3]
    return [100 * found.accuracy, found.spikes_per_neuron, *costs, *spent]


def main(data: str = "digits", *changes: str, out: Path = Path("five-ways.png")) -> dict:
    rows = {way: measure(recipe, list(changes)) for way, recipe in WAYS[data].items()}
    figure = Figure(figsize=(10, 5), layout="constrained")
    for column, title in enumerate(COLUMNS):
        axes = figure.add_subplot(2, 3, column + 1, title=title)
        axes.bar_label(axes.bar(list(rows), [row[column] for row in rows.values()]), fmt="%.3g")
    figure.savefig(out, dpi=150)
    print(" " * 6, *(f"{title:>17}" for title in COLUMNS))
    for way, values in rows.items():
        print(f"{way:<6}", *(f"{value:17,.2f}" for value in values))
    return rows


if __name__ == "__main__":
    main(*sys.argv[1:])
