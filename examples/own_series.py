"""Time series of one's own, from a NumPy file to predictions: two kinds of vibration.

    series.npz      x float [N, T, C], y [N] (whole numbers, texts; real numbers: a regression)

The same at a terminal:

    spikeloom data show series.npz
    spikeloom train own/series root=series.npz T=50
    spikeloom predict runs/own-series/1 one.npy
"""

import tempfile
from pathlib import Path

import numpy as np

import spikeloom as sl


def main(count: int = 240, epochs: int = 15) -> float:
    """Part of new series whose predicted class is right."""
    draws, root = np.random.default_rng(0), Path(tempfile.mkdtemp())
    time = np.arange(200) / 200

    def vibration(kind: str) -> np.ndarray:
        phase, pitch = draws.uniform(0, 6.28), 3 if kind == "slow" else 9
        wave = np.sin(6.28 * pitch * time + phase)
        return (wave + draws.normal(0, 0.3, 200))[:, None]

    kinds = np.array(["slow", "fast"])[np.arange(count) % 2]
    np.savez(root / "series.npz", x=np.stack([vibration(kind) for kind in kinds]), y=kinds)
    changes = {"root": root / "series.npz", "T": 50, "epochs": epochs, "T_max": epochs}
    run = sl.train("own/series", out=root / "run", **changes)
    new = root / "new"
    new.mkdir()
    for number, kind in enumerate(kinds[:40]):
        np.save(new / f"{number:02d}-{kind}.npy", vibration(kind))
    answers = sl.load(run.folder).predict(new)
    return float(np.mean([str(a.name) in a.source for a in answers]))


if __name__ == "__main__":
    print(f"right: {main():.1%}")
