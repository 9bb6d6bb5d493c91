"""Recordings that are two columns of an HDF5 file, and the first-spike authors' layouts of camera
data.

DVS Gesture   group `train` or `test`, in it a group per sample "0", "1", ...
DVSPlane      a group per sample "0", "1", ... at the top

Each sample has `time` uint32 [n] microseconds, `data` [n, 3] = (x, y, p), `labels` a scalar. (Their
N-TIDIGITS layout is in `ntidigits`, and for SHD they read the publisher's, see `shd`.)
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikeloom.data.events.array import Events, events, spikes
from spikeloom.data.events.splits import Pair, Recordings
from spikeloom.data.files.archive import Entry, local, split_files, stamp
from spikeloom.data.files.hdf5 import column, opened, reading
from spikeloom.errors import DataError


@dataclass(frozen=True)
class ColumnRecordings(Recordings):
    """Recordings of a file.

    names  of the two columns of each: times (integers in microseconds, floats in seconds), and
           pixels [n, 3] = (x, y, p), or channels [n] of a cochlea
    """

    path: Path
    stamp: str
    labels: npt.NDArray[np.int64]
    names: tuple[tuple[str, str], ...]
    size: tuple[int, int, int]

    def fingerprint(self) -> str:
        return f"{self.path.name} {self.stamp}"

    def title(self, index: int) -> str:
        return f"{self.path}:{self.names[index][0]}"

    def read(self, index: int) -> Events:
        file, (times, places) = opened(self.path), self.names[index]
        t = column(file, times, self.path).reshape(-1)
        if t.dtype.kind == "f":
            t = t.astype(np.float64) * 1e6
        rows = column(file, places, self.path)
        if self.size[:2] == (1, 1):
            return spikes(t, rows.reshape(-1), self.size[2], source=self.title(index))
        if rows.ndim != 2 or rows.shape[1] != 3:
            raise DataError(
                f"{self.title(index)}: data is {rows.shape}, expected [n, 3] with x, y, p"
            )
        x, y, p = rows.T
        return events(t, x, y, p, self.size, source=self.title(index))


def open_groups(path: Path, size: tuple[int, int, int]) -> ColumnRecordings:
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
        groups = [f"{prefix}{key}" for key in range(len(names))]
        labels = [int(np.asarray(file[f"{group}/labels"][()]).item()) for group in groups]
        columns = tuple((f"{group}/time", f"{group}/data") for group in groups)
        return ColumnRecordings(path, stamp(path), np.array(labels, np.int64), columns, size)


def open_layout(entries: list[Entry], pattern: str, size: tuple[int, int, int]) -> Pair | None:
    """Both splits in the files matched by `pattern` (its group: train or test), None if absent."""
    files = split_files(entries, pattern)
    if not files:
        return None
    return Pair(*(open_groups(local(files[split]), size) for split in ("train", "test")))
