"""DVS128 Gesture: hand gestures before a DVS128 camera, 128x128, 98 training and 24 test trials of
about 12 gestures.

    DVSGesture/DvsGesture/<user>_<light>.aedat            AEDAT 3.1, one trial
    DVSGesture/DvsGesture/<user>_<light>_labels.csv       class (1 to 11), start, end in us
    DVSGesture/DvsGesture/trials_to_train.txt, trials_to_test.txt

A sample is the events of one row of the table, `start <= t < end`, time moved to start at 0.
Samples are in the order of (trial name, start). All 98 training trials are read: 1,176 samples (the
published PLIF runs lost 240 of them in the division among threads). Source: Amir et al., CVPR 2017.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt

from spikeloom.data.events.aedat import DVS128, read_aedat3
from spikeloom.data.events.array import Events
from spikeloom.data.events.frames import Frames, Framing, integrate
from spikeloom.data.events.groups import open_layout
from spikeloom.data.events.recordings import EventSet, Pair, Recordings
from spikeloom.data.files.archive import Entry, fingerprint, matching
from spikeloom.errors import DataError

CLASSES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter-clockwise",
    "left arm clockwise",
    "left arm counter-clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)
OTHER = 10


@dataclass(frozen=True)
class Gesture:
    """One row of a trial's table: label 0 to 10 and `start <= t < stop` in microseconds."""

    trial: Entry
    label: int
    start: int
    stop: int


@dataclass(frozen=True)
class SegmentRecordings(Recordings):
    """Gestures cut out of their trials; a trial is decoded once for neighbouring samples."""

    segments: tuple[Gesture, ...]
    labels: npt.NDArray[np.int64]
    size: tuple[int, int, int] = DVS128

    def fingerprint(self) -> str:
        trials = {segment.trial.name: segment.trial for segment in self.segments}
        cuts = [(segment.label, segment.start, segment.stop) for segment in self.segments]
        return fingerprint(list(trials.values())) + str(cuts)

    def title(self, index: int) -> str:
        segment = self.segments[index]
        return f"{segment.trial} {segment.start / 1e6:.1f} to {segment.stop / 1e6:.1f} s"

    def read(self, index: int) -> Events:
        segment = self.segments[index]
        cut = _trial(segment.trial).between(segment.start, segment.stop)
        return replace(cut, t=cut.t - segment.start)

    def frames(self, index: int, framing: Framing) -> Frames:
        return integrate(self.read(index).from_zero(), framing)


def read_labels(data: bytes, source: object = "labels") -> list[tuple[int, int, int]]:
    """Rows (class 1 to 11, start, end) of a `_labels.csv` file, which has one header line."""
    rows = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines()[1:], 2):
        if not line.strip():
            continue
        try:
            label, start, stop = (int(field) for field in line.split(","))
        except ValueError as error:
            raise DataError(
                f"{source}: line {number} is {line[:40]!r}, expected class,start,end as integers"
            ) from error
        if not 1 <= label <= len(CLASSES) or not 0 <= start <= stop:
            raise DataError(
                f"{source}: line {number} is {line[:40]!r}, expected a class of 1 to 11 and start "
                "<= end"
            )
        rows.append((label, start, stop))
    return rows


@lru_cache(maxsize=1)
def _trial(entry: Entry) -> Events:
    return read_aedat3(entry.read_bytes(), source=entry)


def _find(entries: list[Entry], options: Mapping[str, str], *, other: bool) -> Pair:
    del options
    if not other:
        authors = open_layout(entries, r"DVS-Gesture-(train|test)10\.hdf5", DVS128)
        if authors:
            return authors
    files = {match[1]: entry for match, entry in matching(entries, r"[^/]+\.(?:aedat|csv|txt)")}
    splits = []
    for split in ("train", "test"):
        name = f"trials_to_{split}.txt"
        listed = files[name].read_bytes() if name in files else b""
        segments: list[Gesture] = []
        for trial in sorted(listed.decode("utf-8", "replace").split()):
            table = trial.removesuffix(".aedat") + "_labels.csv"
            for needed in (trial, table):
                if needed not in files:
                    raise DataError(
                        f"{files[name]}: names {trial}, but {needed} is missing; unpack the "
                        "archive again"
                    )
            entry = files[table]
            rows = sorted(read_labels(entry.read_bytes(), entry), key=lambda row: row[1])
            segments += [
                Gesture(files[trial], label - 1, start, stop)
                for label, start, stop in rows
                if other or label - 1 != OTHER
            ]
        labels = np.array([segment.label for segment in segments], np.int64)
        splits.append(SegmentRecordings(tuple(segments), labels))
    return Pair(*splits)


DVS_GESTURE = EventSet(
    name="dvs128-gesture",
    title="DVS128 Gesture: 11 hand gestures before an event camera, 128x128",
    folder="DVSGesture",
    layout="DVSGesture/DvsGesture/<user>_<light>.aedat and <user>_<light>_labels.csv\n"
    "DVSGesture/DvsGesture/trials_to_train.txt and trials_to_test.txt\n"
    "(or DVSGesture/DvsGesture.tar.gz)",
    origin="DvsGesture.tar.gz of IBM's page of the data set (research.ibm.com/dvsgesture)",
    archives=r"dvsgesture\.(zip|tar|tar\.gz|tgz)",
    classes=CLASSES,
    published={"train": 1_176, "test": 288},
    framing=Framing(T=20, by="number"),
    find=partial(_find, other=True),
)

DVS_GESTURE_10 = replace(
    DVS_GESTURE,
    name="dvs128-gesture-10",
    title="DVS128 Gesture without the class of other gestures, 128x128",
    classes=CLASSES[:OTHER],
    published={"train": 1_078, "test": 264},
    layout=DVS_GESTURE.layout
    + "\n(or DVSGesture/DVS-Gesture-train10.hdf5 and DVS-Gesture-test10.hdf5)",
    find=partial(_find, other=False),
)

DATA_SETS = (DVS_GESTURE, DVS_GESTURE_10)
