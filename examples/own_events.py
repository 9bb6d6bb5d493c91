"""Recordings of one's own, from class folders to predictions: bars that move left or right.

    recordings/<class>/<any name>.csv      lines of t (microseconds), x, y, p

The same at a terminal, with `own/events` in place of this small network:

    spikeloom data show recordings/
    spikeloom train own/events root=recordings/
    spikeloom predict runs/own-events/1 recordings/left --csv answers.csv
"""

import tempfile
from pathlib import Path

import numpy as np

import spikeloom as sl

SIDE, DURATION = 16, 200_000


def record(folder: Path, direction: int, draws: np.random.Generator) -> None:
    """A bar that crosses the sensor, and some noise."""
    t = np.sort(draws.integers(0, DURATION, 400))
    place = t * SIDE // DURATION
    x = place if direction > 0 else SIDE - 1 - place
    noise = draws.random(400) < 0.1
    x = np.where(noise, draws.integers(0, SIDE, 400), x)
    rows = np.stack([t, x, draws.integers(0, SIDE, 400), draws.integers(0, 2, 400)], 1)
    folder.mkdir(parents=True, exist_ok=True)
    name = folder / f"{len(list(folder.iterdir())):03d}.csv"
    np.savetxt(name, rows, "%d", ",", header="t,x,y,p", comments="")


def main(each: int = 100, epochs: int = 8) -> float:
    """Part of the recordings whose predicted class is their folder's."""
    root, draws = Path(tempfile.mkdtemp()), np.random.default_rng(0)
    for _ in range(each):
        record(root / "recordings" / "left", -1, draws)
        record(root / "recordings" / "right", 1, draws)
    changes = {"data": "eventfolder", "root": root / "recordings", "T": 6, "epochs": epochs}
    size = {"data.options": {"size": f"{SIDE}x{SIDE}"}}
    run = sl.train("plif/digits-events", out=root / "run", changes=size, **changes)
    answers = sl.load(run.folder).predict(root / "recordings")
    return float(np.mean([Path(a.source).parent.name == a.name for a in answers]))


if __name__ == "__main__":
    print(f"right: {main():.1%}")
