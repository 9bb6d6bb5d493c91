"""DVSPlane: four model planes before an ATIS camera, 304x240 pixels, 200 recordings per plane.

    DVSPlane/<plane>_<number>.mat                       the publisher's
    DVSPlane/DVSPlane-train.hdf5, DVSPlane-test.hdf5    the first-spike authors', see `groups`

A .mat file holds the struct TD with p (+1 or -1), ts (microseconds), x and y (from 1). Of each
plane, numbers 1 to 160 train and 161 to 200 test. The authors keep the active part of a recording
only (`active_part`), which the publisher's files go through here too. Source: Afshar et al., Front.
Neurosci. 2019.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np
import numpy.typing as npt

from spikeloom.data.events.array import Events, events
from spikeloom.data.events.frames import Framing
from spikeloom.data.events.groups import open_layout
from spikeloom.data.events.recordings import EventSet, Pair, pair_of_files
from spikeloom.data.files.archive import Entry, matching
from spikeloom.data.files.matlab import read_struct
from spikeloom.errors import DataError

CLASSES = ("F117", "Mig31", "Su24", "Su35")
SIZE = (2, 240, 304)
TRAINING = 160
SPREAD = 1000  # events over which activity is measured


def read_mat(data: bytes, source: object = "DVSPlane data") -> Events:
    """Events of one .mat file; coordinates from 1 become 0-based, polarity -1 becomes 0.

    A coordinate that is 0 already stays 0, as in the authors' converter.
    """
    fields = read_struct(data, "TD", source)
    missing = {"p", "ts", "x", "y"} - fields.keys()
    if missing:
        raise DataError(
            f"{source}: struct TD has no {', '.join(sorted(missing))}, expected p, ts, x and y"
        )
    columns = {}
    for name in ("p", "ts", "x", "y"):
        values = fields[name].astype(np.float64)
        if not np.isfinite(values).all() or np.abs(values).max(initial=0) >= 2**53:
            raise DataError(
                f"{source}: TD.{name} has values that are no integers; the file is damaged"
            )
        columns[name] = values.astype(np.int64)
    x, y = (columns[name] - (columns[name] > 0) for name in ("x", "y"))
    p = np.where(columns["p"] == -1, 0, columns["p"])
    return events(columns["ts"], x, y, p, SIZE, source=source)


def active_part(t: npt.NDArray[np.int64]) -> slice:
    """The rows in which the plane crosses the picture: the first-spike authors' activity clipping.

    With times in milliseconds, `slope_i = (t[i + 1000] - t[i]) / 1000` is small where events come
    fast. Rows from the first to the last (exclusive) with `slope < m`, m = 10 times the smallest
    slope, are kept. If they span more than 300 ms, m is halved; then, if the kept rows have a gap
    of more than 2 beyond their 2,000th entry, all from the first such gap on is left out. A
    recording of 1,000 events or fewer is kept whole.
    """
    if len(t) <= SPREAD:
        return slice(0, len(t))
    milliseconds = t / 1000
    slope = (milliseconds[SPREAD:] - milliseconds[:-SPREAD]) / SPREAD
    limit = 10 * slope.min()
    rows = np.flatnonzero(slope < limit)
    if not len(rows):  # a smallest slope of 0 or less: every event at one instant
        return slice(0, len(t))
    if milliseconds[rows[-1]] - milliseconds[rows[0]] > 300:
        rows = np.flatnonzero(slope < limit / 2)
        gaps = np.flatnonzero(np.diff(rows) > 2)
        late = gaps[gaps > 2000]
        if len(late):
            rows = rows[: late[0]]
    return slice(int(rows[0]), int(rows[-1]))


def _decode(data: bytes, source: object, *, clip: bool) -> Events:
    recording = read_mat(data, source)
    if clip:
        recording = recording.in_time_order()
        recording = recording.where(active_part(recording.t))
    return recording.from_zero()


def _find(entries: list[Entry], options: Mapping[str, str]) -> Pair:
    layout = open_layout(entries, r"DVSPlane-(train|test)\.hdf5", SIZE)
    if layout:
        return layout
    decode = partial(_decode, clip=options["part"] == "active")
    names = "|".join(CLASSES)
    numbered = [
        (CLASSES.index(match[2]), int(match[3]), entry)
        for match, entry in matching(entries, rf"({names})_(\d+)\.mat")
    ]
    numbered.sort(key=lambda sample: sample[:2])
    samples = [(number > TRAINING, label, entry) for label, number, entry in numbered]
    return pair_of_files(samples, decode, SIZE)


DVS_PLANE = EventSet(
    name="dvsplane",
    title="DVSPlane: four model planes before an event camera, 304x240",
    folder="DVSPlane",
    layout="DVSPlane/<plane>_<number>.mat  (planes F117, Mig31, Su24, Su35, numbers 1 to 200)\n"
    "(or DVSPlane/DVSPlane-train.hdf5 and DVSPlane-test.hdf5)",
    origin="the archive of the ATIS plane data set (greg-cohen.com/datasets)",
    archives=r".*plane.*\.zip",
    classes=CLASSES,
    published={"train": 640, "test": 160},
    framing=Framing(T=135, by="window", dt=2_000, downsample=(4, 4)),
    find=_find,
    options={"part": ("active", "whole")},
)

DATA_SETS = (DVS_PLANE,)
