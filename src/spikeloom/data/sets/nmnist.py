"""N-MNIST: MNIST digits seen by a moving ATIS camera, 34x34 pixels, 70,000 recordings of 0.3 s.

    NMNIST/Train/<digit>/<id>.bin
    NMNIST/Test/<digit>/<id>.bin

`spikeloom.data.events.atis` reads the files. Samples are in the order of (digit, id). Source:
Orchard et al., Front. Neurosci. 2015.

The feedback-network paper reads another form of it, made by the TSSL-BP preprocessing: recordings
stabilised against the three saccades, binned in 3 ms (`stabilised`, `stable_framing`), also as text
files (`read_stable_text`).
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from spikeloom.data.events.array import Events, events
from spikeloom.data.events.atis import SIZE, read_bin
from spikeloom.data.events.frames import Framing
from spikeloom.data.events.recordings import EventSet, Pair, pair_of_files
from spikeloom.data.files.archive import Entry, matching
from spikeloom.errors import DataError

SACCADE = 105_000  # microseconds of each of the three camera movements


def stabilised(recording: Events) -> Events:
    """The recording without the camera's motion; events that leave the picture are dropped.

    With 1-based coordinates and `s = t / 105000`:

        t <= 105 ms:  x -= 3.5 s,              y -= 7 s
        t <= 210 ms:  x -= 3.5 + 3.5 (s - 1),  y += -7 + 7 (s - 1)
        later:        x += -7 + 7 (s - 2)

    then rounded, halves away from zero. Source: the TSSL-BP preprocessing (IDE-FSNN's input).
    """
    s = recording.t / SACCADE
    x = recording.x + 1.0
    y = recording.y + 1.0
    first, second = recording.t <= SACCADE, recording.t <= 2 * SACCADE
    x += np.where(first, -3.5 * s, np.where(second, -3.5 - 3.5 * (s - 1), -7 + 7 * (s - 2)))
    y += np.where(first, -7 * s, np.where(second, -7 + 7 * (s - 1), 0.0))
    x, y = (np.sign(value) * np.floor(np.abs(value) + 0.5) for value in (x, y))
    _, height, width = recording.size
    inside = (x >= 1) & (y >= 1) & (x <= width) & (y <= height)
    return replace(
        recording.where(inside),
        x=(x[inside] - 1).astype(np.int16),
        y=(y[inside] - 1).astype(np.int16),
    )


def stable_framing(T: int) -> Framing:
    """Frames of the feedback-network paper: frame j is 1 at events with `ceil(t / 3 ms) = j + 1`.

    Only bins 1 to T - 1 are read: an event at t = 0 is lost and the last frame is always empty.
    """
    return Framing(T=T - 1, by="window", dt=3000, origin=1, empty=1, binary=True)


def read_stable_text(data: bytes, source: object = "stabilised N-MNIST") -> Events:
    """Events of one file of the text layout `2312_3000_stable/{Train,Test}/{digit}/{k}.dat`.

    One line per active channel, tab separated: channel id, then its bins in time order; the id is
    `1 + 1156 p + 34 x + y` with 0-based x and y. Bin b becomes an event at its end, t = 3000 b.
    """
    channels: list[int] = []
    bins: list[npt.NDArray[np.int64]] = []
    for number, line in enumerate(data.splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            values = np.array(fields, np.int64)
        except (ValueError, OverflowError) as error:
            raise DataError(
                f"{source}: line {number} is {line[:40]!r}, expected tab-separated integers"
            ) from error
        if not 1 <= values[0] <= 2312:
            raise DataError(f"{source}: line {number} has channel {values[0]}, expected 1 to 2312")
        channels += [int(values[0])] * (len(values) - 1)
        bins.append(values[1:])
    index = np.array(channels, np.int64) - 1
    p, pixel = np.divmod(index, 1156)
    x, y = np.divmod(pixel, 34)
    ends = np.concatenate(bins) if bins else np.zeros(0, np.int64)
    if len(ends) and not 0 <= ends.min() <= ends.max() < 1 << 40:
        raise DataError(
            f"{source}: bins run from {ends.min()} to {ends.max()}, expected 0 to about 105"
        )
    return events(ends * 3000, x, y, p, SIZE, source=source)


def _read_stable(data: bytes, source: object) -> Events:
    """The stabilised recording with x as the picture's first axis, as in that paper's program."""
    text = str(source).endswith(".dat")
    recording = read_stable_text(data, source) if text else stabilised(read_bin(data, source))
    return replace(recording, x=recording.y, y=recording.x)


def _find(entries: list[Entry], options: Mapping[str, str], *, stable: bool) -> Pair:
    del options
    pattern = r"(?i:(train|test))/(\d)/0*(\d+)\."
    matches = list(matching(entries, f"{pattern}bin"))
    if stable and not matches:
        matches = list(matching(entries, f"{pattern}dat"))
    matches.sort(key=lambda pair: (int(pair[0][3]), int(pair[0][4])))
    samples = [(match[2].lower() == "test", int(match[3]), entry) for match, entry in matches]
    return pair_of_files(samples, _read_stable if stable else read_bin, SIZE)


NMNIST = EventSet(
    name="nmnist",
    title="N-MNIST: MNIST digits seen by a moving event camera, 34x34",
    folder="NMNIST",
    layout="NMNIST/Train/<digit>/<id>.bin  (or NMNIST/Train.zip)\n"
    "NMNIST/Test/<digit>/<id>.bin   (or NMNIST/Test.zip)",
    origin="Train.zip and Test.zip of the N-MNIST page (data.mendeley.com/datasets/468j46mzdv)",
    archives=r"(train|test|n-?mnist)\.zip",
    classes=tuple(str(digit) for digit in range(10)),
    published={"train": 60_000, "test": 10_000},
    framing=Framing(T=10, by="number"),
    find=partial(_find, stable=False),
)

NMNIST_STABLE = replace(
    NMNIST,
    name="nmnist-stabilised",
    title="N-MNIST with the camera's motion taken out, as the feedback networks read it",
    layout=NMNIST.layout + "\n(or NMNIST/2312_3000_stable/{Train,Test}/<digit>/<k>.dat)",
    framing=stable_framing(30),
    find=partial(_find, stable=True),
)

DATA_SETS = (NMNIST, NMNIST_STABLE)
