"""Who fired: the spikes of a layer as lists, from the layer that fired to the one that listens."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeloom.compiler.cpu.threads import share
from spikeloom.synapses.active import Active, all_ones, count, flat, kernels, list_images
from spikeloom.synapses.memory import Array


@dataclass(frozen=True)
class Fired:
    """The spikes of T time steps and B samples, all of them ones: image `b * T + t` is that of
    sample b at step t. `images.index` may have room between the lists.

    `constant`: what fires in a sample at every step, which is not in `images` then; None where
    nobody looked. A layer that is linear sums it up once for all steps."""

    images: Active
    constant: Active | None
    time_steps: int
    batch: int
    shape: tuple[int, ...]
    """Of one sample at one step: `[C, H, W]`, or `[F]`."""
    dtype: torch.dtype

    @property
    def size(self) -> tuple[int, int, int]:
        """Channels, height and width; features are channels of one pixel."""
        channels, height, width = self.shape if len(self.shape) == 3 else (self.shape[0], 1, 1)
        return channels, height, width

    @property
    def pixels(self) -> int:
        return self.size[1] * self.size[2]

    @cached_property
    def listed(self) -> int:
        """Places in the lists: what a layer has to sum up."""
        return int(sum(_counts(lists, self.pixels).sum() for lists in self._all()))

    @cached_property
    def count(self) -> int:
        """Spikes."""
        once = 0 if self.constant is None else int(_counts(self.constant, self.pixels).sum())
        return self.listed + (self.time_steps - 1) * once

    def _all(self) -> list[Active]:
        return [self.images] if self.constant is None else [self.images, self.constant]

    def samples(self, first: int, last: int) -> "Fired":
        """Those of some samples."""

        def part(lists: Active, step: int) -> Active:
            ends = lists.ends[first * step * (self.pixels + 1) : last * step * (self.pixels + 1)]
            start = lists.start[first * step : last * step + 1]
            return all_ones(start, ends, lists.index, self.dtype)

        constant = None if self.constant is None else part(self.constant, 1)
        images = part(self.images, self.time_steps)
        return Fired(images, constant, self.time_steps, last - first, self.shape, self.dtype)

    def rows(self) -> list[Active]:
        """The lists of images, and those of what is constant, as lists of rows, of features
        `pixel * channels + channel`."""
        channels, _, width = self.size
        rows = []
        for lists in self._all():
            counts = _counts(lists, self.pixels)
            start = np.zeros(len(counts) + 1, np.int64)
            np.cumsum(counts, out=start[1:])
            index = np.empty(int(start[-1]), np.int32)
            arguments = (lists.start, lists.ends, lists.index, width, self.pixels, channels)
            arguments = (*arguments, start, index)
            share(kernels("list").flatten_lists, len(counts), len(index) * 8, *arguments)
            rows.append(all_ones(start, np.empty(0, np.int32), index, self.dtype))
        return rows

    def dense(self) -> Tensor:
        """`[T, B, ...]` of zeros and ones, the channel last in memory."""
        channels, height, width = self.size
        out = torch.zeros(self.batch, self.time_steps, height, width, channels, dtype=self.dtype)
        for lists, times in zip(self._all(), (1, self.time_steps), strict=False):
            arguments = (times, lists.start, lists.ends, lists.index, width, self.pixels, channels)
            arguments = (*arguments, flat(out))
            share(kernels("list").fill_images, len(lists.start) - 1, self.count * 8, *arguments)
        out = out.transpose(0, 1)
        return out.flatten(2) if len(self.shape) == 1 else out.movedim(-1, 2)


def _counts(lists: Active, pixels: int) -> Array:
    """Of each image."""
    return lists.ends.reshape(-1, pixels + 1)[:, -1].astype(np.int64)


class ConstantSpikes:
    """Lists, as of `Fired.constant`, for `images` whose places begin at `start`; `take` fills them
    for some samples at a time."""

    def __init__(self, start: Array, time_steps: int, size: tuple[int, int, int]) -> None:
        self.start, self.time_steps, self.size = start, time_steps, size
        samples, pixels = (len(start) - 1) // time_steps, size[1] * size[2]
        self.ends = np.empty((samples, pixels + 1), np.int32)
        self.index = np.empty(int(start[-1]), np.int32)

    def take(self, first: int, last: int, ends: Any, index: Any) -> None:
        channels, height, width = self.size

        def work(begin: int, end: int) -> None:
            kernels("list").take_constant(
                *(first + begin, first + end, self.time_steps, height * width, width, channels),
                *(self.start, ends, index, self.ends.reshape(-1), self.index),
                np.empty(channels + 2 * self.time_steps, np.int32),
            )

        share(work, last - first, (last - first) * self.time_steps * height * width * channels)

    def lists(self, dtype: torch.dtype) -> Active:
        start = self.start[:: self.time_steps]
        return all_ones(start, self.ends.reshape(-1), self.index, dtype)


def listed(x: Tensor) -> Fired | None:
    """The lists of `[T, B, C, H, W]`; None where the channel is not last in memory, or where there
    are other values than zeros and ones."""
    images = x.transpose(0, 1)
    if x.numel() == 0 or not images.movedim(2, -1).is_contiguous():
        return None
    images = images.flatten(0, 1)
    active = list_images(images, count(images), 1)
    if active.weighted or active.scale != 1:
        return None
    fired = Fired(active, None, len(x), x.shape[1], tuple(x.shape[2:]), x.dtype)
    if len(x) == 1:
        return fired
    constant = ConstantSpikes(active.start, len(x), fired.size)
    constant.take(0, x.shape[1], active.ends, active.index)
    return replace(fired, constant=constant.lists(x.dtype))
