"""Who fired: the spikes of a layer as lists, from the layer that fired to the one that listens."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeloom.compiler.cpu.threads import share
from spikeloom.synapses.active import Active, count, flat, kernels, list_images, real


@dataclass(frozen=True)
class Fired:
    """The spikes of T time steps and B samples, all of them ones: image `b * T + t` is that of
    sample b at step t. `images.index` may have room between the lists."""

    images: Active
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

    @cached_property
    def counts(self) -> np.ndarray[Any, Any]:
        """Of each image."""
        pixels = self.size[1] * self.size[2]
        return self.images.ends.reshape(-1, pixels + 1)[:, -1].astype(np.int64)

    @cached_property
    def count(self) -> int:
        return int(self.counts.sum())

    def samples(self, first: int, last: int) -> Active:
        """The lists of some samples."""
        step = self.time_steps
        pixels = self.size[1] * self.size[2]
        return Active(
            self.images.start[first * step : last * step + 1],
            self.images.ends[first * step * (pixels + 1) : last * step * (pixels + 1)],
            *(self.images.index, self.images.values, False, 1.0),
        )

    def rows(self) -> Active:
        """The same as lists of rows, of features `pixel * channels + channel`."""
        channels, height, width = self.size
        start = np.zeros(len(self.counts) + 1, np.int64)
        np.cumsum(self.counts, out=start[1:])
        index = np.empty(int(start[-1]), np.int32)
        images = self.images

        def work(first: int, last: int) -> None:
            kernels("list").flatten_lists(
                *(first, last, images.start, images.ends, images.index),
                *(width, height * width, channels, start, index),
            )

        share(work, len(self.counts), len(index) * 8)
        none = np.empty(0, real(self.dtype))
        return Active(start, np.empty(0, np.int32), index, none, False, 1.0)

    def dense(self) -> Tensor:
        """`[T, B, ...]` of zeros and ones, the channel last in memory."""
        channels, height, width = self.size
        out = torch.zeros(self.batch, self.time_steps, height, width, channels, dtype=self.dtype)
        images, memory = self.images, flat(out)

        def work(first: int, last: int) -> None:
            kernels("list").fill_images(
                *(first, last, images.start, images.ends, images.index),
                *(width, height * width, channels, memory),
            )

        share(work, self.batch * self.time_steps, self.count * 8)
        out = out.transpose(0, 1)
        return out.flatten(2) if len(self.shape) == 1 else out.movedim(-1, 2)


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
    return Fired(active, len(x), x.shape[1], tuple(x.shape[2:]), x.dtype)
