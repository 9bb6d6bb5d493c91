"""Images to event recordings: a model of an event camera before a moving picture.

A pixel compares the logarithm of its brightness, `L = ln(0.1 + I)`, I in 0..1, with the value that
it last reported:

    L - ref >=  threshold: an ON event (p = 1),  ref += threshold
    L - ref <= -threshold: an OFF event (p = 0), ref -= threshold

again until the difference is smaller. Within a time step brightness changes linearly, which gives
each event its microsecond. The picture moves along a closed path of three saccades, as the camera
of N-MNIST does; thresholds differ between pixels, and noise adds events at random. Sources:
Lichtsteiner et al. 2008; Orchard et al. 2015.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from spikeloom.data.events.array import Events, events
from spikeloom.errors import DataError

Light = npt.NDArray[np.floating]

PATH = np.array([[0.0, 0.0], [0.5, 1.0], [1.0, 0.0], [0.0, 0.0]])
"""Corners (x, y) of the saccades, in units of the amplitude."""


@dataclass(frozen=True)
class Camera:
    """Constants of the model.

    height, width  pixels of the sensor; images are shown in its centre
    threshold      change of ln brightness that a pixel reports
    mismatch       relative standard deviation of the threshold between pixels
    noise          events per pixel and second that no light caused
    amplitude      pixels of the longest movement
    saccade        microseconds of each of the three movements
    step           microseconds between two pictures
    """

    height: int = 34
    width: int = 34
    threshold: float = 0.3
    mismatch: float = 0.03
    noise: float = 0.1
    amplitude: float = 6.0
    saccade: int = 100_000
    step: int = 2_000

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.step) < 1 or self.saccade < self.step:
            raise DataError(
                f"sensor {self.height}x{self.width}, saccade {self.saccade}, step {self.step}: "
                "give positive sizes and a saccade of at least one step"
            )
        if self.threshold <= 0 or min(self.mismatch, self.noise, self.amplitude) < 0:
            raise DataError("threshold must be above 0, mismatch, noise and amplitude not below 0")

    def record(self, images: npt.ArrayLike, seed: int) -> list[Events]:
        """One recording for each image [N, h, w] (uint8, or floats in 0..1), in time order.

        The noise and the thresholds of image i are a function of (seed, i).
        """
        pictures = np.asarray(images)
        if pictures.ndim != 3:
            raise DataError(f"images have shape {pictures.shape}, expected [N, height, width]")
        light = pictures.astype(np.float32)
        if pictures.dtype == np.uint8:
            light /= 255
        if light.size and not (light.min() >= 0 and light.max() <= 1):
            raise DataError(
                f"brightness runs from {light.min():g} to {light.max():g}, expected 0 to 1"
            )
        margin = int(np.ceil(self.amplitude)) + 1
        light = _centred(light, self.height + 2 * margin, self.width + 2 * margin)
        draws = [np.random.default_rng((seed, index)) for index in range(len(light))]
        rows = self._signal(light, margin, draws) if draws else []
        return [self._finish(events, draw) for events, draw in zip(rows, draws, strict=True)]

    def _signal(
        self, light: Light, margin: int, draws: Sequence[np.random.Generator]
    ) -> list[npt.NDArray[np.int64]]:
        """Events caused by movement, rows (t, x, y, p) for each image."""
        shape = len(light), self.height, self.width
        spread = np.ones(shape, np.float32)
        for image, draw in zip(spread, draws, strict=True):
            image += self.mismatch * draw.standard_normal(image.shape, np.float32)
        threshold = self.threshold * np.maximum(spread, 0.1)
        phase = np.stack([draw.random(shape[1:], np.float32) - np.float32(0.5) for draw in draws])
        before = _log(self._view(light, margin, 0.0, 0.0))
        # what a pixel reported last is not known: somewhere within a threshold of what it sees now
        reference = before + phase * threshold
        parts: list[npt.NDArray[np.int64]] = []
        corners = np.arange(len(PATH)) * self.saccade
        for end in range(self.step, 3 * self.saccade + 1, self.step):
            x, y = (self.amplitude * np.interp(end, corners, PATH[:, axis]) for axis in (0, 1))
            after = _log(self._view(light, margin, x, y))
            crossings = np.trunc((after - reference) / threshold).astype(np.int64)
            place = np.flatnonzero(crossings)
            if len(place):
                parts.append(
                    self._crossed(place, crossings, reference, threshold, before, after, end)
                )
                reference += crossings * threshold
            before = after
        rows = np.concatenate(parts) if parts else np.zeros((0, 5), np.int64)
        order = np.argsort(rows[:, 0], kind="stable")
        ends = np.searchsorted(rows[order, 0], np.arange(len(light) + 1))
        return [rows[order[a:b], 1:] for a, b in pairwise(ends)]

    def _crossed(self, place, crossings, reference, threshold, before, after, end: int):
        """Rows (image, t, x, y, p) of the threshold crossings of one step."""
        counts = crossings.reshape(-1)[place]
        each = np.repeat(np.arange(len(place)), np.abs(counts))
        # 1, 2, ... among the crossings of a pixel
        first = np.concatenate([[0], np.cumsum(np.abs(counts))[:-1]])
        nth = np.arange(len(each)) - first[each] + 1
        place, sign = place[each], np.sign(counts)[each]
        level = reference.reshape(-1)[place] + sign * nth * threshold.reshape(-1)[place]
        start, stop = before.reshape(-1)[place], after.reshape(-1)[place]
        part = np.clip((level - start) / np.where(stop == start, 1, stop - start), 0, 1)
        t = end - self.step + np.floor(part * (self.step - 1)).astype(np.int64)
        image, pixel = np.divmod(place, self.height * self.width)
        y, x = np.divmod(pixel, self.width)
        return np.stack([image, t, x, y, (sign > 0).astype(np.int64)], 1)

    def _finish(self, rows: npt.NDArray[np.int64], draw: np.random.Generator) -> Events:
        """A recording with its noise, in time order."""
        size = (2, self.height, self.width)
        duration = 3 * self.saccade
        count = draw.poisson(self.noise * self.height * self.width * duration / 1e6)
        limits = duration, self.width, self.height, 2
        noise = np.stack([draw.integers(0, limit, count) for limit in limits], 1)
        return events(*np.concatenate([rows, noise]).T, size=size).in_time_order()

    def _view(self, light: Light, margin: int, x: float, y: float):
        """What the sensor sees when the picture has moved by (x, y) pixels: bilinear."""
        column, row = int(np.floor(x)), int(np.floor(y))
        right, down = np.float32(x - column), np.float32(y - row)

        def window(dx: int, dy: int):
            top, left = margin - row - dy, margin - column - dx
            return light[:, top : top + self.height, left : left + self.width]

        upper = (1 - right) * window(0, 0) + right * window(1, 0)
        lower = (1 - right) * window(0, 1) + right * window(1, 1)
        return (1 - down) * upper + down * lower


def enlarged(images: npt.NDArray[np.generic], height: int, width: int) -> Light:
    """Images [N, h, w] as [N, height, width], bilinear between pixel centres."""
    light = images.astype(np.float32)
    for axis, size in ((1, height), (2, width)):
        old = light.shape[axis]
        place = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        low = np.minimum(place.astype(np.int64), max(old - 2, 0))
        part = (place - low).astype(np.float32)
        part = part.reshape([-1 if a == axis else 1 for a in range(3)])
        high = np.minimum(low + 1, old - 1)
        light = (1 - part) * light.take(low, axis) + part * light.take(high, axis)
    return light


def _centred(light: Light, height: int, width: int) -> Light:
    """Images in the middle of a dark field; a larger image loses its edges."""
    count, rows, columns = light.shape
    field = np.zeros((count, height, width), np.float32)
    top, left = (height - rows) // 2, (width - columns) // 2
    inside = light[:, max(-top, 0) :, max(-left, 0) :][:, :height, :width]
    place = field[:, max(top, 0) :, max(left, 0) :]
    place[:, : inside.shape[1], : inside.shape[2]] = inside
    return field


def _log(light: Light) -> Light:
    return np.log(np.float32(0.1) + light)
