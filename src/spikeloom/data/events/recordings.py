"""Collections of recordings: what a data set of events is before it becomes frames.

Nothing here imports torch: the processes that prepare frames start in a fraction of a second.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from spikeloom.data.events.array import Events
from spikeloom.data.events.frames import Frames, Framing, integrate
from spikeloom.data.files.archive import Entry, fingerprint, scan
from spikeloom.data.files.places import candidates, missing
from spikeloom.errors import DataError

Decode = Callable[[bytes, object], Events]


class Recordings(Protocol):
    """Recordings of one split, in the fixed order of the data set; picklable, and cheap until
    `read`.
    """

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class of every recording, int64 [N]."""
        ...

    @property
    def size(self) -> tuple[int, int, int]:
        """(polarities, height, width) of the sensor."""
        ...

    def fingerprint(self) -> str:
        """Equal as long as the files are."""
        ...

    def title(self, index: int) -> str:
        """Where recording `index` comes from, for people."""
        ...

    def read(self, index: int) -> Events:
        """Recording `index`. Raises `DataError` naming the file and what is wrong with it."""
        ...

    def frames(self, index: int, framing: Framing) -> Frames:
        """Recording `index` as frames: `integrate` of `read`, unless the data set has a rule of its
        own.
        """
        ...


@dataclass(frozen=True)
class FileRecordings:
    """One recording per file; `decode(content, name)` turns the bytes into events."""

    entries: tuple[Entry, ...]
    labels: npt.NDArray[np.int64]
    decode: Decode
    size: tuple[int, int, int]

    def fingerprint(self) -> str:
        return fingerprint(list(self.entries))

    def title(self, index: int) -> str:
        return str(self.entries[index])

    def read(self, index: int) -> Events:
        entry = self.entries[index]
        return self.decode(entry.read(), entry)

    def frames(self, index: int, framing: Framing) -> Frames:
        return integrate(self.read(index), framing)


@dataclass(frozen=True)
class Pair:
    """The two splits of a data set."""

    train: Recordings
    test: Recordings


@dataclass(frozen=True)
class EventSet:
    """A data set of events, declared by its module.

    name       as in a recipe
    title      one line for lists
    folder     the publisher's folder below the data root
    layout     the files expected there, as a tree for error messages
    obtain     where a user gets them
    classes    class names in label order
    published  samples of the publisher's splits
    framing    frames that the first paper to use it in this library takes
    find       (files below the root, options) -> Pair; raises `DataError` if there is none
    options    names of `find`'s options with their choices, the first is the default
    archives   file names, in small letters, of archives that may stand in for folders
    audio      a sample is `[T, channels]`, not `[T, 2, H, W]`
    bundled    the library has all that it needs; no files are looked for
    """

    name: str
    title: str
    folder: str
    layout: str
    obtain: str
    classes: tuple[str, ...]
    published: Mapping[str, int]
    framing: Framing
    find: Callable[[list[Entry], Mapping[str, str]], Pair]
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    archives: str = ""
    audio: bool = False
    bundled: bool = False

    def open(self, root: Path | None, options: Mapping[str, str] | None = None) -> Pair:
        """The recordings found at `root`, else below $SPIKELOOM_DATA, else below ./data.

        `root` is the data set's folder, the one above it, an archive, or (where it is one) the file
        itself. Raises `DataError` with the expected tree if nothing is there.
        """
        chosen = {name: choices[0] for name, choices in self.options.items()}
        for name, value in (options or {}).items():
            if value not in self.options.get(name, ()):
                known = "; ".join(f"{key} = {' or '.join(of)}" for key, of in self.options.items())
                raise DataError(
                    f"{self.name} has no option {name} = {value!r}: give {known or 'none'}"
                )
            chosen[name] = value
        return self._search(root, chosen)[1]

    def locate(self, root: Path | None) -> Path:
        """The folder or file in which `open` finds the recordings."""
        return self._search(root, {name: of[0] for name, of in self.options.items()})[0]

    def _search(self, root: Path | None, options: Mapping[str, str]) -> tuple[Path, Pair]:
        if self.bundled:
            return Path(__file__).parents[1] / "bundled", self.find([], options)
        places = candidates(root, [self.folder])
        for place in places:
            if place.exists():
                pair = self.find(scan(place, self.archives), options)
                if len(pair.train.labels) or len(pair.test.labels):
                    return place, pair
        raise missing(self.name, places, self.layout, self.obtain)


def of_files(
    entries: Sequence[tuple[Entry, int]], decode: Decode, size: tuple[int, int, int]
) -> FileRecordings:
    """Recordings from (file, label) pairs in their final order."""
    labels = np.array([label for _, label in entries], np.int64)
    return FileRecordings(tuple(entry for entry, _ in entries), labels, decode, size)
