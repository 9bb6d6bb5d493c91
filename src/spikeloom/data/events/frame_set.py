"""The splits of an event data set as prepared frames, ready to train on.

Frames may be normalised, as the PLIF and DSR programs offer it; per frame j and polarity plane:

    frequency  F / d_j          d_j: microseconds that frame j stands for
    max        F / max(max F, 1e-5)
    sum        F / max(sum F, 1e-5)
    norm       (F - mean F) / sqrt(max(var F, 1e-5))   var unbiased (H W - 1), as theirs

All published runs train on plain counts ("none").
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from spikeloom.data.base import DataSet, Split
from spikeloom.data.events.array import Events
from spikeloom.data.events.cache import Prepared
from spikeloom.data.events.frames import Framing, integrate
from spikeloom.data.events.splits import Recordings

READ_AHEAD = 1 << 30  # bytes of counts beyond which a page cache cannot be taken for granted
SEEN = 0.5  # part of the events that frames should hold; below it there is a note


Normalization = Literal["none", "frequency", "max", "sum", "norm"]
FLOOR = 1e-5


class FrameSplit(Split):
    """Prepared frames of one split.

    `read` gives counts `[T, B, 2, H, W]` (`[T, B, channels]` for a cochlea), uint8, or int32 if a
    count is above 255; float32 where they are normalised.
    """

    def __init__(
        self,
        recordings: Recordings,
        frames: Prepared,
        normalization: Normalization = "none",
        *,
        flat: bool = False,
    ) -> None:
        self.recordings = recordings
        self.frames = frames
        self.normalization: Normalization = normalization
        self.in_memory = frames.bytes <= READ_AHEAD
        self._flat = flat
        self._rows = np.delete(np.arange(frames.count), frames.damaged)
        self.labels = torch.from_numpy(recordings.labels[self._rows])

    def read(self, indices: Tensor) -> Tensor:
        rows = self._rows[indices.numpy()]
        counts = torch.from_numpy(self.frames.read(rows))
        durations = torch.from_numpy(self.frames.durations[rows].T.copy())
        counts = normalize(counts, self.normalization, durations)
        return counts.flatten(2) if self._flat else counts


def notes(name: str, split: FrameSplit, framing: Framing, usual: bool) -> list[str]:
    """What the frames do not show; `usual`: they are cut as is usual for the data set."""
    lines = []
    frames = split.frames
    if frames.damaged:
        shown = ", ".join(split.recordings.title(row) for row in frames.damaged[:5])
        lines.append(f"{name}: {len(frames.damaged):,} damaged recordings are left out ({shown})")
    kept, there = frames.events["kept"], frames.events["there"]
    if not usual and kept < SEEN * there:
        lines.append(
            f"{name}: {there - kept:,} of {there:,} events lie outside the {framing.T} windows of "
            f"{framing.dt / 1000:g} ms and are dropped: is data.frames.dt (milliseconds) or "
            "data.frames.begin as it was meant?"
        )
    if frames.events["empty"]:
        lines.append(f"{name}: {frames.events['empty']:,} recordings give frames without an event")
    if frames.events["unsorted"]:
        lines.append(
            f"{name}: {frames.events['unsorted']:,} recordings are not in time order"
            + (
                " and were sorted"
                if split.recordings.sort
                else ": frames by number follow the order of the file"
            )
        )
    return lines


def sample(
    recording: Events, framing: Framing, normalization: Normalization, *, flat: bool
) -> Tensor:
    """One recording as `FrameSplit.read` gives it, without the axis of the batch."""
    frames = integrate(recording, framing)
    kind = np.uint8 if frames.counts.dtype == np.uint8 else np.int32
    counts = torch.from_numpy(frames.counts.astype(kind))
    counts = normalize(counts, normalization, torch.from_numpy(frames.durations))
    return counts.flatten(1) if flat else counts


def describe(data: DataSet) -> str:
    """One line about prepared frames, after every file of them was verified."""
    size = 0
    for split in (data.train, data.test):
        frames: Prepared = split.frames  # type: ignore[attr-defined]
        frames.verify()
        size += frames.bytes
    shape = "x".join(map(str, (frames.shape[0], *data.spec.shape)))
    counts = f"{len(data.train):,} + {len(data.test):,}"
    lines = "".join(f"\nnote: {note}" for note in data.notes)
    return (
        f"{data.spec.name}: {counts} recordings as frames {shape}, {size / 1e6:,.1f} MB in "
        f"{frames.folder.parent}{lines}"
    )


def normalize(counts: Tensor, kind: Normalization, durations: Tensor) -> Tensor:
    """Frames `[T, ..., H, W]` of any type, normalised: float64 stays, others become float32.

    `durations` [T] or [T, B] in microseconds. "none" gives `counts` as they are.
    """
    values = counts if counts.dtype == torch.float64 else counts.to(torch.float32)
    plane = (-2, -1)
    match kind:
        case "none":
            return counts
        case "frequency":
            shape = durations.shape + (1,) * (counts.dim() - durations.dim())
            return (counts.to(torch.float64) / durations.view(shape)).to(values.dtype)
        case "max":
            return values / values.amax(plane, keepdim=True).clamp_min(FLOOR)
        case "sum":
            return values / values.sum(plane, keepdim=True).clamp_min(FLOOR)
        case "norm":
            mean = values.mean(plane, keepdim=True)
            spread = values.var(plane, keepdim=True)
            return (values - mean) / spread.clamp_min(FLOOR).sqrt()
    raise ValueError(f"normalization {kind!r}: expected none, frequency, max, sum or norm")
