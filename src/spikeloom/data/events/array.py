"""Event arrays: what an event camera or a silicon cochlea recorded, one row per event.

An event is `(t, x, y, p)`: a time stamp in microseconds, a pixel, and a polarity (0 = OFF, 1 = ON).
A cochlea is a sensor one pixel high with one polarity: its channel is `x`. Events keep the order of
their file.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from spikeloom.errors import DataError

LATEST = 1 << 53  # microseconds, three centuries; beyond it floats have gaps
LARGEST_SIDE = 32767  # coordinates are int16; no event sensor is near this size


@dataclass(frozen=True, eq=False)
class Columns:
    """What a file holds, before it is checked: one value per event in each column, any number type.

    `p` is None where there is no polarity; `size` (height, width) where the file tells it; `unit`
    of the times where its format defines it; `cut`: bytes left over at the end.
    """

    t: npt.NDArray[Any]
    x: npt.NDArray[Any]
    y: npt.NDArray[Any]
    p: npt.NDArray[Any] | None
    size: tuple[int, int] | None = None
    unit: str = "us"
    cut: int = 0


@dataclass(frozen=True, eq=False)
class Events:
    """One recording of E events.

    `t` int64 [E] microseconds, `x` and `y` int16 [E] pixels, `p` uint8 [E] polarity;
    `size` = (polarities, height, width) of the sensor. Built by `events()`, which checks the
    columns.
    """

    t: npt.NDArray[np.int64]
    x: npt.NDArray[np.int16]
    y: npt.NDArray[np.int16]
    p: npt.NDArray[np.uint8]
    size: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.t)

    @property
    def duration(self) -> int:
        """Microseconds between the earliest and the latest event, 0 for fewer than two events."""
        return int(self.t.max() - self.t.min()) if len(self) else 0

    def where(self, rows: npt.NDArray[Any] | slice) -> "Events":
        """The events of a boolean mask, an index array, or a slice."""
        return replace(self, t=self.t[rows], x=self.x[rows], y=self.y[rows], p=self.p[rows])

    def between(self, start: int, stop: int) -> "Events":
        """The events with `start <= t < stop` (microseconds), in file order, times unchanged."""
        if is_sorted(self.t):
            first, last = np.searchsorted(self.t, (start, stop), side="left")
            return self.where(slice(first, last))
        return self.where((self.t >= start) & (self.t < stop))

    def from_zero(self) -> "Events":
        """The same events with the earliest at t = 0."""
        return replace(self, t=self.t - self.t.min()) if len(self) else self

    def in_time_order(self) -> "Events":
        """The same events sorted by time; events of one instant keep their order."""
        if is_sorted(self.t):
            return self
        return self.where(np.argsort(self.t, kind="stable"))

    def table(self) -> npt.NDArray[np.int64]:
        """The events as int64 [E, 4] with columns t, x, y, p."""
        return np.stack([column.astype(np.int64) for column in (self.t, self.x, self.y, self.p)], 1)


def events(
    t: npt.ArrayLike,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    size: tuple[int, int, int],
    *,
    source: object = "events",
) -> Events:
    """Columns [E] of any integer type (float times are floored) as checked `Events`.

    Raises `DataError` naming `source` and the first record that lies outside the sensor `size`.
    """
    times = np.asarray(t)
    if times.dtype.kind == "f":
        wrong = ~(np.abs(times) < LATEST)  # also True for what is not a number
        if wrong.any():
            record = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"{source}: record {record} has time {times[record]}, expected microseconds; "
                "the file is damaged"
            )
        times = np.floor(times)
    columns = {"x": np.asarray(x), "y": np.asarray(y), "p": np.asarray(p)}
    for name, column in columns.items():
        if column.shape != times.shape or times.ndim != 1:
            raise DataError(
                f"{source}: column {name} has shape {column.shape}, the times {times.shape}; "
                "expected one value per event"
            )
    polarities, height, width = size
    if max(size) > LARGEST_SIDE or min(size) < 1:
        raise DataError(f"{source}: a sensor of {size} (polarities, height, width) is impossible")
    for name, limit in (("x", width), ("y", height), ("p", polarities)):
        column = columns[name]
        if column.size and not (column.min() >= 0 and column.max() < limit):
            record = int(np.flatnonzero((column < 0) | (column >= limit))[0])
            raise DataError(
                f"{source}: record {record} has {name} = {column[record]}, expected 0 to "
                f"{limit - 1}; the file is damaged or of another sensor"
            )
    return Events(
        t=times.astype(np.int64, copy=False),
        x=columns["x"].astype(np.int16, copy=False),
        y=columns["y"].astype(np.int16, copy=False),
        p=columns["p"].astype(np.uint8, copy=False),
        size=size,
    )


def spikes(
    t: npt.ArrayLike, channel: npt.ArrayLike, channels: int, *, source: object = "spikes"
) -> Events:
    """Spikes of a cochlea, a sensor (1, 1, channels): times [E] in microseconds, channels [E]."""
    zeros = np.zeros(np.shape(t), np.uint8)
    return events(t, channel, zeros, zeros, (1, 1, channels), source=source)


def is_sorted(t: npt.NDArray[np.int64]) -> bool:
    """Whether times never decrease."""
    return bool((t[1:] >= t[:-1]).all())
