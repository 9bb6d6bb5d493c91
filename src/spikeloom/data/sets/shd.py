"""SHD and SSC, the Spiking Heidelberg Digits and Spiking Speech Commands: speech through a cochlea
model, 700 channels.

    SHD/shd_train.h5, SHD/shd_test.h5      (or .h5.gz, .h5.zip)
    SSC/ssc_train.h5, SSC/ssc_test.h5

`spikes/times` [N] of variable-length float16 seconds, `spikes/units` [N] of variable-length
integers 0 to 699, `labels` [N] 0 to 19 (German, then English zero to nine). Source: Cramer et al.,
IEEE TNNLS 2020.

`binning` decides where a spike falls among windows of dt:

float16  `floor(t 1000 / dt_ms)` computed in float16, as the first-spike program does: 2 to 4 % of
         the spikes land in a neighbouring window
exact    `floor(t / dt)` without rounding
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from spikeloom.data.api import Remote
from spikeloom.data.events.array import Events, spikes
from spikeloom.data.events.frames import Frames, Framing, integrate
from spikeloom.data.events.recordings import EventSet, Pair, Recordings
from spikeloom.data.files.archive import Entry, local, split_files, stamp
from spikeloom.data.files.hdf5 import column, opened, reading
from spikeloom.errors import DataError

CHANNELS = 700
Binning = Literal["float16", "exact"]
WORDS = ["null", "eins", "zwei", "drei", "vier", "fuenf", "sechs", "sieben", "acht", "neun"]
WORDS += ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


COMMANDS = """
yes no up down left right on off stop go backward bed bird cat dog eight five follow forward four
happy house learn marvin nine one seven sheila six three tree two visual wow zero
"""  # of SSC, in label order


@dataclass(frozen=True)
class SpikeFile(Recordings):
    """Recordings of a file in SHD's layout."""

    path: Path
    stamp: str
    labels: npt.NDArray[np.int64]
    binning: Binning = "float16"
    size: tuple[int, int, int] = (1, 1, CHANNELS)

    def fingerprint(self) -> str:
        return f"{self.path.name} {self.stamp} {self.binning}"

    def title(self, index: int) -> str:
        return f"{self.path}:{index}"

    def read(self, index: int) -> Events:
        times, units = self._columns(index)
        # a float16 times a million is exact in float64: this floor loses nothing that `exact` needs
        return spikes(times.astype(np.float64) * 1e6, units, self.size[2], source=self.title(index))

    def frames(self, index: int, framing: Framing) -> Frames:
        if self.binning == "exact" or framing.by != "window":
            return integrate(self.read(index), framing)
        times, units = self._columns(index)
        bins = float16_bins(times, framing.dt)
        placed = spikes(bins * framing.dt, units, self.size[2], source=self.title(index))
        return integrate(placed, framing)

    def _columns(self, index: int) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.integer]]:
        file = opened(self.path)
        with reading(self.path, f"recording {index}"):
            times = np.asarray(file["spikes/times"][index])
            units = np.asarray(file["spikes/units"][index])
        if times.dtype.kind != "f" or units.dtype.kind not in "iu" or times.shape != units.shape:
            raise DataError(
                f"{self.title(index)}: times {times.dtype} {times.shape} and units {units.dtype} "
                f"{units.shape}, expected floats and as many integers; the file is damaged"
            )
        if not np.isfinite(times).all() or (times.size and times.min() < 0):
            raise DataError(
                f"{self.title(index)}: a time is negative or not finite; the file is damaged"
            )
        return times, units


def float16_bins(times: npt.NDArray[np.floating], dt: int) -> npt.NDArray[np.int64]:
    """Window of each time in seconds, `floor(t 1000 / dt_ms)`, each operation in float16."""
    scaled = times.astype(np.float16) * np.float16(1000) / np.float16(dt / 1000)
    if not np.isfinite(scaled).all():
        raise DataError(
            f"times up to {float(times.max()):g} s in windows of {dt} us exceed float16; "
            'give binning = "exact"'
        )
    return np.floor(scaled).astype(np.int64)


def open_spikes(path: Path, *, binning: Binning = "float16") -> SpikeFile:
    """The recordings of a file in SHD's layout. Raises `DataError` if it is damaged."""
    file = opened(path)
    labels = column(file, "labels", path)
    with reading(path, "spikes"):
        counts = {name: len(file[f"spikes/{name}"]) for name in ("times", "units")}
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or set(counts.values()) != {len(labels)}:
        raise DataError(
            f"{path}: {labels.shape} labels for {counts} recordings; expected one integer label "
            "each"
        )
    return SpikeFile(path, stamp(path), labels.astype(np.int64), binning)


def _find(entries: list[Entry], options: Mapping[str, str], *, name: str) -> Pair | None:
    binning = cast(Binning, options["binning"])
    files = split_files(entries, rf"{name}_(train|test|valid)\.h5(?:\.gz)?")
    if not files:
        return None
    train, test = (open_spikes(local(files[split]), binning=binning) for split in ("train", "test"))
    notes = ()
    if "valid" in files:
        notes = (f"{name}_valid.h5 is not read: protocol B takes its samples from training",)
    return Pair(train, test, notes=notes)


SHD = EventSet(
    name="shd",
    title="SHD: spoken digits, German and English, through a cochlea model, 700 channels",
    folder="SHD",
    layout="SHD/shd_train.h5  (or .h5.gz, .h5.zip)\nSHD/shd_test.h5   (or .h5.gz, .h5.zip)",
    origin="shd_train.h5.gz and shd_test.h5.gz (zenkelab.org/datasets)",
    remotes=tuple(
        Remote(f"https://zenkelab.org/datasets/shd_{split}.h5.zip", f"SHD/shd_{split}.h5.zip", sum_)
        for split, sum_ in (
            ("train", "sha256:d21bf17b71bededa52cc9134717b2bfee25dc4a99a94c1807be9a3c4f9697dc4"),
            ("test", "sha256:f50b1d1f614ed84ff92f34aa771c33b237944722455b52ce1ccd2eac7903812c"),
        )
    ),
    archives=r"shd(_(train|test)\.h5)?\.zip",
    classes=tuple(WORDS),
    published={"train": 8_156, "test": 2_264},
    framing=Framing(T=100, by="window", dt=10_000, origin=0),
    find=partial(_find, name="shd"),
    options={"binning": ("float16", "exact")},
    audio=True,
)

SSC = replace(
    SHD,
    name="ssc",
    title="SSC: spoken commands through a cochlea model, 700 channels",
    folder="SSC",
    layout="SSC/ssc_train.h5  (or .h5.gz, .h5.zip)\nSSC/ssc_test.h5   (or .h5.gz, .h5.zip)",
    origin="ssc_train.h5.gz and ssc_test.h5.gz (zenkelab.org/datasets)",
    remotes=(),
    archives=r"ssc(_(train|test|valid)\.h5)?\.zip",
    classes=tuple(COMMANDS.split()),
    published={"train": 75_466, "test": 20_382},
    find=partial(_find, name="ssc"),
)

DATA_SETS = (SHD, SSC)
