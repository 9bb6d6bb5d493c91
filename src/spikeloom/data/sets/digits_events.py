"""digits-events: the bundled digits before the event camera of `camera`, 16x16 pixels, 0.3 s. No
file is needed.

The 8x8 images are enlarged to 12x12 and shown in the middle of the sensor while the picture moves
by up to 3 pixels. Split and order are those of `digits` (1,438 and 359). The recordings are made
when they are first asked for, always the same ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from spikeloom.data.events.array import Events
from spikeloom.data.events.camera import Camera, enlarged
from spikeloom.data.events.frames import Framing
from spikeloom.data.events.recordings import EventSet, Pair, Recordings
from spikeloom.data.files.archive import Entry
from spikeloom.data.sets.digits import read_digits

CAMERA = Camera(height=16, width=16, amplitude=3.0)
SIDE = 12
SEED = 1797
MADE = 1  # raised whenever the same images would give other recordings


@dataclass(frozen=True)
class MadeRecordings(Recordings):
    """Recordings of the images at `indices` of the bundled file."""

    indices: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    size: tuple[int, int, int] = (2, CAMERA.height, CAMERA.width)

    def fingerprint(self) -> str:
        return f"digits {MADE} {CAMERA} {SIDE} {SEED} {self.indices.tolist()}"

    def title(self, index: int) -> str:
        return f"digit {self.indices[index]}"

    def read(self, index: int) -> Events:
        return _recordings()[self.indices[index]]


@lru_cache(maxsize=1)
def _recordings() -> list[Events]:
    images, _, _ = read_digits()
    return CAMERA.record(enlarged(images, SIDE, SIDE) / 16, SEED)


def _find(entries: list[Entry], options: Mapping[str, str]) -> Pair:
    del entries, options
    _, labels, test = read_digits()
    return Pair(
        *(MadeRecordings(np.flatnonzero(chosen), labels[chosen]) for chosen in (~test, test))
    )


DIGITS_EVENTS = EventSet(
    name="digits-events",
    title="The bundled digits before a simulated event camera, 16x16; needs no files",
    folder="",
    layout="",
    origin="",
    classes=tuple(str(digit) for digit in range(10)),
    published={"train": 1_438, "test": 359},
    framing=Framing(T=10, by="number"),
    find=_find,
    bundled=True,
)

DATA_SETS = (DIGITS_EVENTS,)
