"""Collections of recordings: what a data set of events is before it becomes frames.

Nothing here imports torch: the processes that prepare frames start in a fraction of a second.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spikeloom.data.api import Accept, Progress, Remote, Source, candidates, count_lines
from spikeloom.data.events.array import Events
from spikeloom.data.events.frames import Framing, make_framing
from spikeloom.data.events.splits import Pair, Recordings
from spikeloom.data.files.archive import Entry, fingerprint, scan
from spikeloom.errors import DataError
from spikeloom.progress import Bar

if TYPE_CHECKING:
    from torch import Tensor

    from spikeloom.config.data import DataConfig
    from spikeloom.data.base import DataSet, DataSpec
    from spikeloom.data.events.frame_set import Normalization


Decode = Callable[[bytes, object], Events]
"""From a file's content, and its name for errors, to the recording in it."""


@dataclass(frozen=True)
class FileRecordings(Recordings):
    """One recording per file."""

    entries: tuple[Entry, ...]
    labels: npt.NDArray[np.int64]
    decode: Decode
    size: tuple[int, int, int]
    sort: bool = False

    def fingerprint(self) -> str:
        return fingerprint(self.entries)

    def title(self, index: int) -> str:
        return str(self.entries[index])

    def read(self, index: int) -> Events:
        entry = self.entries[index]
        return self.decode(entry.read_bytes(), entry)


Find = Callable[[list[Entry], Mapping[str, str]], Pair | None]


@dataclass(frozen=True, kw_only=True)
class EventSet(Source):
    """A data set of recordings, given as frames that are prepared on first use.

    folder     the publisher's folder below the data root
    classes    class names in label order
    framing    frames that the first paper to use it in this library takes
    find       (files below the root, options) -> Pair, or None where there is nothing; raises
               `DataError` if something is missing
    archives   file names, in small letters, of archives that may stand in for folders
    audio      a sample is `[T, channels]`, not `[T, 2, H, W]`
    bundled    the library has all that it needs; no files are looked for
    version    raised whenever the same files would be decoded to other events
    """

    name: str
    title: str
    folder: str
    layout: str
    origin: str
    classes: tuple[str, ...]
    published: Mapping[str, int]
    framing: Framing
    find: Find
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    remotes: tuple[Remote, ...] = ()
    archives: str = ""
    audio: bool = False
    bundled: bool = False
    version: int = 1

    sections = ("frames",)

    @property
    def events(self) -> "EventSet":
        return self

    def load(
        self,
        root: Path | None = None,
        framing: Framing | None = None,
        normalization: "Normalization" = "none",
        options: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        skip_damaged: bool = False,
        accept: Accept | None = None,
    ) -> "DataSet":
        """The data set as frames cut by `framing` (None: as the data set's first paper has them).

        `options` are the data set's own, for example the split of CIFAR10-DVS. `skip_damaged` goes
        on without recordings that cannot be read, and says how many. `accept` is called before
        frames are prepared, and raises an error if they would be for nothing.
        """
        from spikeloom.data.base import DataSet, DataSpec, missing_samples
        from spikeloom.data.events.cache import prepared
        from spikeloom.data.events.frame_set import FrameSplit, notes

        chosen = self.choices(options)
        _, pair = self._search(root, chosen)
        framing = framing or self.framing
        sides = {"train": pair.train, "test": pair.test}
        for name, recordings in sides.items():
            if not len(recordings.labels):  # told before the other split is prepared
                raise DataError(
                    f"{self.name}: the {name} split has no recordings: complete the files, or name "
                    f"the folder that holds both splits; expected:\n{self.layout}"
                )
        shape = framing.shape(pair.train.size)[1:]
        shape = shape[-1:] if self.audio else shape
        spec = DataSpec(self.name, shape, self.class_names(pair), kind="events")
        if accept is not None:
            accept(spec)
        meaning = f"{self.version} {sorted(chosen.items())}" + " skip" * skip_damaged
        prepare = partial(
            prepared, framing=framing, meaning=meaning, progress=progress, skip_damaged=skip_damaged
        )
        splits = {}
        for name, recordings in sides.items():
            frames = prepare(f"{self.name}-{name}", recordings)
            splits[name] = FrameSplit(recordings, frames, normalization, flat=self.audio)
        lines = [*pair.notes, *missing_samples(self.name, self.published, **splits)]
        for name, split in splits.items():
            lines += notes(f"{self.name} {name}", split, framing, framing == self.framing)
        plain = (0.0,) * shape[0], (1.0,) * shape[0]
        return DataSet(spec, splits["train"], splits["test"], *plain, tuple(lines))

    def for_recipe(
        self,
        config: "DataConfig",
        T: int | None,
        accept: Accept | None = None,
    ) -> "DataSet":
        framing = make_framing(config.frames, self.framing, T)
        root = None if config.root is None else Path(config.root)
        with Bar(f"preparing {self.name}") as bar:
            how = config.frames.normalization
            skip, show = config.skip_damaged, bar.show
            return self.load(root, framing, how, config.options, show, skip, accept)

    def files(self, root: Path | None) -> tuple[Path, ...]:
        """The folder or file that was found; recordings are too many to be listed one by one."""
        return (self._search(root, self.choices(None))[0],)

    def prepare(self, root: Path | None) -> str:
        with Bar(f"preparing {self.name}") as bar:
            return self.describe(self.load(root, progress=bar.show))

    def describe(self, data: "DataSet") -> str:
        from spikeloom.data.events.frame_set import describe

        return describe(data)

    def understood(self, root: Path, options: Mapping[str, str] | None = None) -> str:
        pair = self.open(root, options)
        labels = pair.train.labels, pair.test.labels
        lines = count_lines(*labels, self.class_names(pair), "recordings")
        some = np.unique(np.linspace(0, len(pair.train.labels) - 1, 5).astype(np.int64))
        read = [pair.train.read(int(index)) for index in some]
        longest, most = max(r.duration for r in read), max(map(len, read))
        lines.append(f"  up to {most:,} events in {longest / 1e6:.3g} s, of {len(read)} looked at")
        return "\n".join([*lines, *(f"  {note}" for note in pair.notes)])

    def class_names(self, pair: Pair) -> tuple[str, ...]:
        """Class names in label order."""
        return pair.classes or self.classes

    def sample(
        self, content: bytes, name: str, config: "DataConfig", T: int | None, spec: "DataSpec"
    ) -> "Tensor":
        """The recording in the file `name` as frames `[T, P, H, W]` (`[T, channels]`)."""
        from spikeloom.data.events.frame_set import sample

        framing = make_framing(config.frames, self.framing, T)
        recording = self.recording(content, name, self.choices(config.options), spec)
        return sample(recording, framing, config.frames.normalization, flat=self.audio)

    def recording(
        self, content: bytes, name: str, options: Mapping[str, str], spec: "DataSpec"
    ) -> Events:
        """The events in one file. `spec` is of the data that a network was trained on."""
        del spec
        pair = self.find([], options)
        decode: Decode | None = getattr(pair.train, "decode", None) if pair else None
        if decode is None:
            raise DataError(f"{name}: {self.name} has no files of one recording each")
        return decode(content, name)

    def open(self, root: Path | None, options: Mapping[str, str] | None = None) -> Pair:
        """The recordings found at `root`, else below $SPIKELOOM_DATA, else below ./data.

        `root` is the data set's folder, the one above it, an archive, or (where it is one) the file
        itself. Raises `DataError` with the expected tree if nothing is there.
        """
        return self._search(root, self.choices(options))[1]

    def _search(self, root: Path | None, options: Mapping[str, str]) -> tuple[Path, Pair]:
        bundled = Path(__file__).parents[1] / "bundled"
        places = [bundled] if self.bundled else candidates(root, [self.folder])
        for place in places:
            if place.exists():
                pair = self.find(scan(place, self.archives), options)
                if pair and (len(pair.train.labels) or len(pair.test.labels)):
                    self._check_labels(pair)
                    return place, pair
        raise self.missing(places)

    def _check_labels(self, pair: Pair) -> None:
        most = len(self.class_names(pair)) - 1
        for recordings in (pair.train, pair.test):
            labels = recordings.labels
            wrong = np.flatnonzero((labels < 0) | (labels > most))
            if len(wrong):
                raise DataError(
                    f"{recordings.title(wrong[0])}: label {labels[wrong[0]]}, expected 0 to {most}"
                )


def of_files(
    entries: Sequence[tuple[Entry, int]],
    decode: Decode,
    size: tuple[int, int, int],
    *,
    sort: bool = False,
) -> FileRecordings:
    """Recordings from (file, label) pairs in their final order."""
    labels = np.array([label for _, label in entries], np.int64)
    return FileRecordings(tuple(entry for entry, _ in entries), labels, decode, size, sort)


def pair_of_files(
    samples: Iterable[tuple[bool, int, Entry]],
    decode: Decode,
    size: tuple[int, int, int],
    *,
    classes: tuple[str, ...] = (),
) -> Pair:
    """Both splits of (whether it tests, label, file), in their final order."""
    sides: tuple[list[tuple[Entry, int]], ...] = ([], [])
    for tests, label, entry in samples:
        sides[tests].append((entry, label))
    train, test = (of_files(side, decode, size) for side in sides)
    return Pair(train, test, classes=classes)
