"""Frames prepared once: files of counts that a training run maps into memory.

    <root>/frames/<data set>-<split>-<key>/meta.json      written last
                                          /part-00000.npy counts [n, T, P, H, W], as small as fits
                                          /durations.npy  float64 [N, T] microseconds, see `Frames`

The key is a digest of the recordings, of what they are read as (the data set's options and the
version of its decoder), the framing, and `VERSION`, so that nothing stale is ever read. A
preparation works in a folder of its own and is renamed when it is complete: a killed one leaves
nothing that could be taken for a result, and the next one removes its remains. Processes that want
the same frames wait for the first one.

`<root>` is $SPIKELOOM_CACHE, else spikeloom in the user's cache folder ($XDG_CACHE_HOME, ~/.cache).
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import zlib
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikeloom import files
from spikeloom.cache_home import cache_root, check_trust, make_own
from spikeloom.data.api import Progress
from spikeloom.data.events.frames import Framing
from spikeloom.data.events.parts import part_name, write_parts, writing
from spikeloom.data.events.splits import Recordings
from spikeloom.data.files.archive import BROKEN
from spikeloom.errors import DataError

VERSION = 2
"""Raised whenever the same recordings and framing would give other counts or other files."""
PART_BYTES = 32 << 20  # of counts in one file, and in the memory of one worker


@dataclass(frozen=True)
class Prepared:
    """A complete preparation on disk, opened."""

    folder: Path
    count: int
    shape: list[int]
    """`[T, P, H, W]` of a recording."""
    per_part: int
    parts: list[dict[str, int]]
    largest: int
    events: dict[str, int]
    """Events "there" and "kept"; recordings that are "empty" in frames, or were "unsorted"."""
    damaged: list[int]
    """Recordings that could not be read, and have no frames."""

    @property
    def bytes(self) -> int:
        """Bytes of the counts on disk."""
        return sum(part["bytes"] for part in self.parts)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type that holds every count: uint8 if none is above 255, else int32."""
        return np.dtype(np.uint8 if self.largest < 256 else np.int32)

    @cached_property
    def durations(self) -> npt.NDArray[np.float64]:
        """Microseconds that each frame of each recording stands for, [N, T]."""
        return _array(self.folder / "durations.npy")

    @cached_property
    def _maps(self) -> list[npt.NDArray[Any]]:
        return [_array(self.folder / part_name(index)) for index in range(len(self.parts))]

    def read(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Counts of the recordings at `indices` [B], time first: `[T, B, P, H, W]`."""
        T, *rest = self.shape
        out = np.empty((T, len(indices), *rest), self.dtype)
        for place, index in enumerate(indices):
            part, row = divmod(int(index), self.per_part)
            out[:, place] = self._maps[part][row]
        return out

    def verify(self) -> None:
        """Compare every file with its check sum. Raises `DataError` naming a damaged one."""
        for index, part in enumerate(self.parts):
            path = self.folder / part_name(index)
            if zlib.crc32(path.read_bytes()) != part["crc"]:
                raise DataError(f"{path}: check sum differs; clear the cache and prepare again")

    def __getstate__(self) -> dict[str, Any]:
        # a worker process maps the files itself; copies of the maps would hold the counts
        return {k: v for k, v in self.__dict__.items() if k not in ("_maps", "durations")}


def prepared(
    name: str,
    recordings: Recordings,
    framing: Framing,
    *,
    meaning: str = "",
    workers: int | None = None,
    progress: Progress | None = None,
    root: Path | None = None,
    skip_damaged: bool = False,
) -> Prepared:
    """The frames of all recordings, from the cache or prepared now on `workers` (all) cores.

    `name` is for people: data set and split. `meaning` is whatever else decides how the files are
    read. `root` is the cache folder (None: the user's).
    Raises `DataError` if a recording is damaged or the disk is full; what was prepared before
    stays; or if others may write to the cache.
    """
    base = root or cache_root()
    folder = base / "frames" / f"{name}-{cache_key(recordings, framing, meaning)}"
    check_trust(base, folder.parent, folder)
    existing = _open(folder)
    if existing is not None:
        return existing
    with writing(folder, "prepared frames"):
        make_own(folder.parent)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # without locks every process prepares for itself
            stack.enter_context(files.locked(folder.with_suffix(".lock")))
        existing = _open(folder)  # another process may have been faster
        return existing or _prepare(folder, recordings, framing, workers, progress, skip_damaged)


def cache_key(recordings: Recordings, framing: Framing, meaning: str = "") -> str:
    """16 hexadecimal digits that change with everything that the counts depend on."""
    frames = sorted(asdict(framing).items())
    facts = (VERSION, recordings.fingerprint(), recordings.size, frames, meaning)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def stored() -> list[Prepared]:
    """Every complete preparation in the cache, sorted by name."""
    folders = sorted((cache_root() / "frames").glob("*/meta.json"))
    return [frames for path in folders if (frames := _open(path.parent)) is not None]


def clear(name: str = "") -> int:
    """Remove what was prepared for the data set `name` (all of them); the bytes it had.

    Remains of killed preparations go too, and unpacked archives when everything goes.
    """
    # the split comes after the name: the frames of "shd-x" are none of "shd"
    of_set = re.compile(rf"\.?{re.escape(name)}-(train|test)-" if name else "")
    paths = [path for path in (cache_root() / "frames").glob("*") if of_set.match(path.name)]
    if not name:
        paths.append(cache_root() / "unpacked")
    freed = sum(map(_size, paths))
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return freed


def _prepare(
    folder: Path,
    recordings: Recordings,
    framing: Framing,
    workers: int | None,
    progress: Progress | None,
    skip_damaged: bool,
) -> Prepared:
    count, shape = len(recordings.labels), framing.shape(recordings.size)
    needed = count * int(np.prod(shape))
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise DataError(
            f"{folder.parent}: {needed / 1e9:.1f} GB of frames do not fit, {free / 1e9:.1f} GB are "
            "free; free some, or name another place with $SPIKELOOM_CACHE"
        )
    for remains in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(remains, ignore_errors=True)
    per_part = max(1, min(count, PART_BYTES // int(np.prod(shape))))
    with writing(folder, "prepared frames"):
        place = tempfile.TemporaryDirectory(
            prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True
        )
    with place as name:
        work = Path(name)
        parts = write_parts(work, per_part, recordings, framing, workers, progress)
        damaged = [pair for part in parts for pair in part["damaged"]]
        if damaged and (not skip_damaged or len(damaged) == count):
            raise DataError(_list_of(damaged, count))
        meta = {
            "damaged": [row for row, _ in damaged],
            "version": VERSION,
            "count": count,
            "shape": shape,
            "per_part": per_part,
            "largest": max((part["largest"] for part in parts), default=0),
            "framing": asdict(framing),
            "events": {
                kind: sum(part["events"][kind] for part in parts)
                for kind in ("there", "kept", "empty", "unsorted")
            },
            "parts": [{"bytes": part["bytes"], "crc": part["crc"]} for part in parts],
        }
        durations = [np.ones((0, shape[0])), *(part["durations"] for part in parts)]
        with writing(work, "prepared frames"):
            np.save(work / "durations.npy", np.concatenate(durations))
            files.write(work / "meta.json", json.dumps(meta), sync=True)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one, else `_open` had found it
        with contextlib.suppress(OSError):  # without locks another process may have been faster
            os.rename(work, folder)
    result = _open(folder)
    if result is None:
        raise DataError(
            f"{folder}: the prepared frames vanished; is another process clearing the cache?"
        )
    return result


def _list_of(damaged: list[tuple[int, str]], count: int) -> str:
    """One text about all recordings that cannot be read."""
    if len(damaged) == 1:
        return damaged[0][1]
    lines = [text for _, text in damaged[:20]]
    more = f"\n... and {len(damaged) - 20:,} more" if len(damaged) > 20 else ""
    return (
        f"{len(damaged):,} of {count:,} recordings cannot be read; data.skip_damaged=true goes on "
        "without them:\n" + "\n".join(lines) + more
    )


def _open(folder: Path) -> Prepared | None:
    """The preparation in `folder`, None if it is not there, incomplete, or cut short."""
    try:
        meta = files.parse_json((folder / "meta.json").read_text())
        if meta.pop("version") != VERSION or not (folder / "durations.npy").exists():
            return None
        del meta["framing"]  # for people
        there = Prepared(folder, **meta)
        sizes = [(folder / part_name(index)).stat().st_size for index in range(len(there.parts))]
        return there if sizes == [part["bytes"] for part in there.parts] else None
    except BROKEN:
        return None


def _array(path: Path) -> npt.NDArray[Any]:
    """A file of numbers, mapped into memory."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except BROKEN as error:
        raise DataError(f"{path}: damaged: clear the cache and prepare again") from error


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
