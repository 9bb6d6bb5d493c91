"""Changes of one recording, before it becomes frames; NumPy, without a loop over events.

Whatever draws random numbers takes a `numpy.random.Generator`, so that a recording changes the same
way again from the same seed.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from spikeloom.data.events.array import Events
from spikeloom.errors import DataError

NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def denoise(recording: Events, interval: int) -> Events:
    """Only events with another one, of any polarity, at one of the 8 pixels around them up to
    `interval` earlier.

    The usual filter against background activity: noise is alone, moving edges are not.
    Microseconds; the other event may be at the same instant.
    """
    count = len(recording)
    if interval < 0:
        raise DataError(f"interval = {interval} us: give 0 or more")
    if not count:
        return recording
    _, height, width = recording.size
    # one sorted list of (pixel, time) keys; a border of one pixel keeps neighbours apart from row
    # ends
    t = recording.t - recording.t.min()
    span = int(t.max()) + interval + 2
    if span * (height + 2) * (width + 2) >= 1 << 62:
        raise DataError(f"a recording of {t.max()} us is too long to denoise; cut it first")
    pixel = (recording.y.astype(np.int64) + 1) * (width + 2) + recording.x + 1
    keys = np.sort(pixel * span + t)
    supported = np.zeros(count, bool)
    for dy, dx in NEIGHBOURS:
        there = (pixel + dy * (width + 2) + dx) * span
        # the latest event there that is not later than this one
        latest = keys[np.maximum(np.searchsorted(keys, there + t, side="right") - 1, 0)]
        supported |= (latest >= there) & (latest <= there + t) & (there + t - latest <= interval)
    return recording.where(supported)


def crop(recording: Events, left: int, top: int, width: int, height: int) -> Events:
    """The events of a window, as a sensor of its size."""
    polarities, rows, columns = recording.size
    if not (0 <= left < left + width <= columns and 0 <= top < top + height <= rows):
        raise DataError(
            f"a window of {width}x{height} at ({left}, {top}) does not lie in {columns}x{rows} "
            "pixels"
        )
    x, y = recording.x - left, recording.y - top
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    kept = recording.where(inside)
    return replace(kept, x=x[inside], y=y[inside], size=(polarities, height, width))


def downsample(recording: Events, factor: int) -> Events:
    """Every event at pixel `(x // factor, y // factor)` of a smaller sensor; none is dropped."""
    polarities, rows, columns = recording.size
    if factor < 1:
        raise DataError(f"factor = {factor}: give 1 or more")
    size = polarities, -(-rows // factor), -(-columns // factor)
    return replace(recording, x=recording.x // factor, y=recording.y // factor, size=size)


def flip_x(recording: Events) -> Events:
    """Left and right exchanged."""
    return replace(recording, x=(recording.size[2] - 1 - recording.x).astype(np.int16))


def flip_y(recording: Events) -> Events:
    """Up and down exchanged."""
    return replace(recording, y=(recording.size[1] - 1 - recording.y).astype(np.int16))


def flip_polarity(recording: Events) -> Events:
    """ON and OFF exchanged."""
    return replace(recording, p=(recording.size[0] - 1 - recording.p).astype(np.uint8))


def flip_time(recording: Events) -> Events:
    """The recording backwards: times mirrored, polarities exchanged, in time order."""
    if not len(recording):
        return recording
    back = flip_polarity(recording).where(slice(None, None, -1))
    return replace(back, t=recording.t.max() + recording.t.min() - back.t)


def shift(recording: Events, dx: int, dy: int) -> Events:
    """Every event moved by `dx` to the right and `dy` downwards; those that leave the sensor are
    dropped.
    """
    _, rows, columns = recording.size
    x, y = recording.x.astype(np.int64) + dx, recording.y.astype(np.int64) + dy
    inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    kept = recording.where(inside)
    return replace(kept, x=x[inside].astype(np.int16), y=y[inside].astype(np.int16))


def random_shift(recording: Events, pixels: int, draw: np.random.Generator) -> Events:
    """`shift` by whole pixels drawn from -pixels..pixels in each direction."""
    dx, dy = draw.integers(-pixels, pixels, size=2, endpoint=True)
    return shift(recording, int(dx), int(dy))


def jitter(recording: Events, spread: float, draw: np.random.Generator) -> Events:
    """Each time changed by a normal number of standard deviation `spread` microseconds, sorted
    anew.

    Times do not go below 0.
    """
    noise = np.rint(draw.normal(0.0, spread, len(recording))).astype(np.int64)
    moved = replace(recording, t=np.maximum(recording.t + noise, 0))
    return moved.in_time_order()


def delete(recording: Events, p: float, draw: np.random.Generator) -> Events:
    """The recording without a random part `p` of its events."""
    if not 0 <= p <= 1:
        raise DataError(f"p = {p}: give a probability of deletion from 0 to 1")
    return recording.where(draw.random(len(recording)) >= p)


def without_hot_pixels(recording: Events, rate: float) -> Events:
    """The recording without the pixels that fire more than `rate` events per second."""
    if not len(recording):
        return recording
    counts = _per_pixel(recording)
    hot = counts > rate * max(recording.duration, 1) / 1e6
    return recording.where(~hot[recording.y, recording.x])


def _per_pixel(recording: Events) -> npt.NDArray[np.int64]:
    _, rows, columns = recording.size
    flat = recording.y.astype(np.int64) * columns + recording.x
    return np.bincount(flat, minlength=rows * columns).reshape(rows, columns)
