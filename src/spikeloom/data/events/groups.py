"""The first-spike authors' HDF5 layouts of camera data.

DVS Gesture   group `train` or `test`, in it a group per sample "0", "1", ...
DVSPlane      a group per sample "0", "1", ... at the top

Each sample has `time` uint32 [n] microseconds, `data` [n, 3] = (x, y, p), `labels` a scalar. (Their
N-TIDIGITS layout is in `ntidigits`, and for SHD they read the publisher's, see `shd`.)
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikeloom.data.events.array import Events, events
from spikeloom.data.events.splits import Pair, Recordings
from spikeloom.data.files.archive import Entry, local, split_files, stamp
from spikeloom.data.files.hdf5 import column, opened, reading
from spikeloom.errors import DataError


@dataclass(frozen=True)
class Groups(Recordings):
    """Recordings of a file, one per numbered group below `prefix`."""

    path: Path
    stamp: str
    labels: npt.NDArray[np.int64]
    prefix: str
    size: tuple[int, int, int]

    def fingerprint(self) -> str:
        return f"{self.path.name} {self.stamp} {self.prefix}"

    def title(self, index: int) -> str:
        return f"{self.path}:{self.prefix}{index}"

    def read(self, index: int) -> Events:
        group = f"{self.prefix}{index}"
        file = opened(self.path)
        t = column(file, f"{group}/time", self.path).reshape(-1)
        rows = column(file, f"{group}/data", self.path)
        if rows.ndim != 2 or rows.shape[1] != 3:
            raise DataError(
                f"{self.title(index)}: data is {rows.shape}, expected [n, 3] with x, y, p"
            )
        x, y, p = rows.T
        return events(t, x, y, p, self.size, source=self.title(index))


def open_groups(path: Path, size: tuple[int, int, int]) -> Groups:
    """The recordings of a file in either layout. Raises `DataError` for a gap."""
    file = opened(path)
    with reading(path, "the list of samples"):
        prefix = next((f"{split}/" for split in ("train", "test") if split in file), "")
        names = set(file[prefix] if prefix else file)
        gap = next((key for key in range(len(names)) if str(key) not in names), None)
        if gap is not None:
            raise DataError(
                f"{path}: {len(names)} groups without one called {gap}; expected 0, 1, 2, ..."
            )
        labels = [
            int(np.asarray(file[f"{prefix}{key}/labels"][()]).item()) for key in range(len(names))
        ]
        return Groups(path, stamp(path), np.array(labels, np.int64), prefix, size)


def open_layout(entries: list[Entry], pattern: str, size: tuple[int, int, int]) -> Pair | None:
    """Both splits in the files matched by `pattern` (its group: train or test), None if absent."""
    files = split_files(entries, pattern)
    if not files:
        return None
    return Pair(*(open_groups(local(files[split]), size) for split in ("train", "test")))
