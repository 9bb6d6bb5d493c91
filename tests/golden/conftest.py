"""Finds the arrays that the published implementations computed, and loads them.

A test that takes the fixture `plif_neuron` runs once for each file that holds such an experiment,
anywhere below `--golden-root`. Kinds are told apart by the start of the file's name and by the
arrays inside; every setting is read from the arrays.
"""

from pathlib import Path

import numpy as np
import pytest

Arrays = dict[str, np.ndarray]

# Fixture -> (pattern of file names, arrays that such a file holds).
KINDS = {
    "plif_neuron": ("neuron_*.npz", {"x", "g_s", "g_v", "init_tau", "is_plif"}),
    "plif_surrogate": ("surrogate_*.npz", {"x", "up", "y", "alpha", "primitive_f64"}),
    "plif_net": ("net_*.npz", {"x", "label", "cfg.init_tau", "counter_f64", "param_names"}),
    "plif_split": ("split_*.npz", {"labels", "val_ratio", "train_idx", "val_idx"}),
    "plif_lr": ("lr_*.npz", {"base_lr", "T_max", "lr"}),
    "plif_frames": ("frames_*.npz", {"t", "x", "y", "p", "height", "width", "T"}),
    "plif_reader": ("reader_*.npz", {"raw", "t", "x", "y", "p"}),
    "dsr_frames": ("*frames*.npz", {"aedat_bytes", "ev_t", "ev_x", "ev_y", "ev_p"}),
    "glif_frames": ("*frames*.npz", {"t", "x", "y", "p", "frames", "frames48"}),
    "ide_frames": ("*frames*.npz", {"events0"}),
    "fs_events": ("*events*.npz", {"dvs_events", "dvs_dt", "shd_times", "aedat_bytes", "clip_ts"}),
}


def pytest_configure(config: pytest.Config) -> None:
    root = Path(str(config.getoption("--golden-root")))
    if not any(root.rglob("*.npz")):
        raise pytest.UsageError(f"--golden-root {root}: expected a folder with .npz files below it")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    root = Path(str(metafunc.config.getoption("--golden-root")))
    for fixture in KINDS.keys() & set(metafunc.fixturenames):
        files = _find(root, *KINDS[fixture])
        metafunc.parametrize(
            fixture, files, indirect=True, ids=[str(file.relative_to(root)) for file in files]
        )


def _find(root: Path, pattern: str, names: set[str]) -> list[Path]:
    found = []
    for path in sorted(root.rglob(pattern)):
        with np.load(path, allow_pickle=False) as arrays:
            if names <= set(arrays.files):
                found.append(path)
    return found


def _load(request: pytest.FixtureRequest) -> Arrays:
    with np.load(request.param, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


for _name in KINDS:
    globals()[_name] = pytest.fixture(_load, name=_name)
