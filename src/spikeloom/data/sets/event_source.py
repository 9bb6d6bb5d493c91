"""Event data sets by name, and their splits as frames ready to train on."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from spikeloom.data.base import DataSet, Source
from spikeloom.data.events.cache import Prepared, prepared
from spikeloom.data.events.frames import Framing
from spikeloom.data.events.normalization import Normalization, normalize
from spikeloom.data.events.recordings import EventSet, Recordings
from spikeloom.data.events.workers import Progress
from spikeloom.data.progress import Bar
from spikeloom.data.sets.cifar10dvs import CIFAR10_DVS
from spikeloom.data.sets.digits_events import DIGITS_EVENTS
from spikeloom.data.sets.dvsgesture import DVS_GESTURE, DVS_GESTURE_10
from spikeloom.data.sets.dvsplane import DVS_PLANE
from spikeloom.data.sets.fsdd import FSDD
from spikeloom.data.sets.nmnist import NMNIST, NMNIST_STABLE
from spikeloom.data.sets.ntidigits import N_TIDIGITS
from spikeloom.data.sets.shd import SHD
from spikeloom.data.spec import DataSpec

READ_AHEAD = 1 << 30  # bytes of counts beyond which a page cache cannot be taken for granted


class FrameSplit:
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
        self._labels = torch.from_numpy(recordings.labels)

    def __len__(self) -> int:
        return self.frames.count

    @property
    def labels(self) -> Tensor:
        return self._labels

    def read(self, indices: Tensor) -> Tensor:
        rows = indices.numpy()
        counts = torch.from_numpy(self.frames.read(rows))
        if self.normalization != "none":
            durations = torch.from_numpy(self.frames.durations[rows].T.copy())
            counts = normalize(counts, self.normalization, durations)
        return counts.flatten(2) if self._flat else counts


class EventSource(Source):
    """A data set of recordings, given as frames that are prepared on first use."""

    def __init__(self, events: EventSet) -> None:
        self.events = events
        self.name = events.name
        self.title = events.title
        self.published = events.published

    def load(
        self,
        root: Path | None,
        framing: Framing | None = None,
        normalization: Normalization = "none",
        options: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> DataSet:
        """The data set as frames cut by `framing` (None: as the data set's first paper has them).

        `options` are the data set's own, for example the split of CIFAR10-DVS.
        """
        pair = self.events.open(root, options)
        framing = framing or self.events.framing
        splits = {
            split: FrameSplit(
                recordings,
                prepared(f"{self.name}-{split}", recordings, framing, progress=progress),
                normalization,
                flat=self.events.audio,
            )
            for split, recordings in (("train", pair.train), ("test", pair.test))
        }
        shape = framing.shape(pair.train.size)[1:]
        spec = DataSpec(
            self.name,
            (shape[-1],) if self.events.audio else shape,
            self.events.classes,
            kind="events",
        )
        train, test = splits["train"], splits["test"]
        channels = spec.shape[0]
        return DataSet(
            spec,
            train,
            test,
            mean=(0.0,) * channels,
            std=(1.0,) * channels,
            notes=self.missing_samples(train, test),
        )

    def files(self, root: Path | None) -> tuple[Path, ...]:
        """The folder or file that was found; recordings are too many to be listed one by one."""
        return (self.events.locate(root),)

    def prepare(self, root: Path | None) -> str:
        with Bar(f"preparing {self.name}") as bar:
            return describe(self.load(root, progress=bar.show))


def describe(data: DataSet) -> str:
    """One line about prepared frames, after every file of them was verified."""
    splits = [split for split in (data.train, data.test) if isinstance(split, FrameSplit)]
    for split in splits:
        split.frames.verify()
    first = splits[0].frames
    shape = "x".join(map(str, (first.shape[0], *data.spec.shape)))
    size = sum(split.frames.bytes for split in splits)
    counts = " + ".join(f"{len(split):,}" for split in splits)
    return (
        f"{data.spec.name}: {counts} recordings as frames {shape}, {size / 1e6:,.1f} MB in "
        f"{first.folder.parent}"
    )


EVENT_SETS = (
    NMNIST,
    NMNIST_STABLE,
    CIFAR10_DVS,
    DVS_GESTURE,
    DVS_GESTURE_10,
    DVS_PLANE,
    SHD,
    N_TIDIGITS,
    FSDD,
    DIGITS_EVENTS,
)
DATA_SETS = tuple(EventSource(events) for events in EVENT_SETS)
