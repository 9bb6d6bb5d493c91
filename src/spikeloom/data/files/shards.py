"""Many small files in a few large ones: tar shards in the layout of WebDataset, with an index.

    train/000000.tar      00000000.jpg, 00000000.cls, 00000001.jpg, 00000001.cls, ...
    train/000001.tar
    train/index.npz
    classes.txt           one name a line, in the order of labels

A sample is two neighbouring members with the same name up to its first dot: the image file as it
was, and `.cls`, its label in decimal digits. The index says where each image lies (`table`, int64
`[N, 4]`: shard, offset, size, label), so that any of them is read by one `pread`, in any order, and
no archive is unpacked: what webdataset's sequential readers cannot give a run that resumes inside
an epoch. Without an index, or if a shard has another size than it says, the headers of the tars are
read once and the index is written anew, where the folder can be written to.
"""

import contextlib
import io
import os
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikeloom import files
from spikeloom.data.files.archive import BROKEN, tar_members, unreadable
from spikeloom.errors import DataError

INDEX = "index.npz"
CLASSES = "classes.txt"

_OPEN = 64  # shards that a process keeps open


@dataclass(frozen=True)
class Shards:
    """The samples of one folder. `table` int64 `[N, 4]`: shard, offset, size, label."""

    paths: tuple[Path, ...]
    table: npt.NDArray[np.int64]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        return self.table[:, 3]


class Reader:
    """Contents of samples by number; opens shards when they are needed, in each process its own."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards
        self._files: dict[int, io.FileIO] = {}

    def read(self, index: int) -> bytes:
        """The image file of sample `index`. `DataError` if its shard cannot be read that far."""
        shard, offset, size, _ = self.shards.table[index].tolist()
        path = self.shards.paths[shard]
        try:
            if shard not in self._files:
                while len(self._files) >= _OPEN:
                    self._files.pop(next(iter(self._files))).close()
                self._files[shard] = open(path, "rb", buffering=0)  # noqa: SIM115
            content = os.pread(self._files[shard].fileno(), size, offset)
        except OSError as error:
            raise unreadable(path, error) from error
        if len(content) != size:
            raise DataError(
                f"{path}: {len(content)} of {size} bytes at {offset}: the shard is cut short, "
                "fetch or make it again"
            )
        return content

    def name(self, index: int) -> str:
        shard, offset, size, _ = self.shards.table[index].tolist()
        return f"{self.shards.paths[shard]}: {size} bytes at {offset}"

    def __del__(self) -> None:
        for file in self._files.values():
            file.close()

    def __getstate__(self) -> dict[str, object]:
        return {"shards": self.shards, "_files": {}}


def shard_files(folder: Path) -> tuple[Path, ...]:
    """The shards in `folder`, in the order of their names; none if it is no folder of shards."""
    return tuple(sorted(folder.glob("*.tar")))


def open_shards(folder: Path, suffixes: Sequence[str]) -> Shards:
    """What the shards in `folder` hold. `suffixes`: those of images, in small letters.

    Raises `DataError` for a tar that is damaged, a sample without image or label, or none at all.
    """
    paths = shard_files(folder)
    sizes = [path.stat().st_size for path in paths]
    table = _read_index(folder / INDEX, paths, sizes)
    if table is None:
        rows = [row for i, path in enumerate(paths) for row in _samples(i, path, suffixes)]
        if not rows:
            raise DataError(
                f"{folder}: its shards hold no samples: expected pairs NAME.jpg and NAME.cls"
            )
        table = np.array(rows, dtype=np.int64)
        with contextlib.suppress(OSError):  # a read-only folder: the next start reads them again
            _write_index(folder / INDEX, paths, sizes, table)
    return Shards(paths, table)


def write_shards(
    folder: Path,
    samples: Iterator[tuple[bytes, str, int]],
    shard_bytes: int,
    done: Callable[[int], None] = lambda count: None,
) -> Shards:
    """Writes `samples` (content, suffix with its dot, label) as shards of about `shard_bytes` into
    a new `folder`, which appears when it is whole. The same samples give the same bytes.

    `done` is told the number of samples written. `DataError` if the folder exists or the disk is
    full.
    """
    if folder.exists():
        raise DataError(f"{folder} exists already: remove it, or give another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = tempfile.TemporaryDirectory(
        prefix=".shards-", dir=folder.parent, ignore_cleanup_errors=True
    )
    try:
        with place as temporary:
            work = Path(temporary)
            paths, table = _pack(work, samples, shard_bytes, done)
            _write_index(work / INDEX, paths, [path.stat().st_size for path in paths], table)
            work.chmod(0o755)
            os.replace(work, folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}): make room") from error
    return Shards(tuple(folder / path.name for path in paths), table)


def _pack(
    work: Path,
    samples: Iterator[tuple[bytes, str, int]],
    shard_bytes: int,
    done: Callable[[int], None],
) -> tuple[list[Path], npt.NDArray[np.int64]]:
    """The shards written in `work`, and their table."""
    rows: list[tuple[int, int, int, int]] = []
    paths: list[Path] = []
    with contextlib.ExitStack() as shard:
        file: tarfile.TarFile | None = None
        for content, suffix, label in samples:
            if file is None or file.offset >= shard_bytes:
                shard.close()
                paths.append(work / f"{len(paths):06d}.tar")
                file = shard.enter_context(
                    tarfile.open(paths[-1], "w", format=tarfile.USTAR_FORMAT)
                )
            name = f"{len(rows):08d}"
            # A header of one block comes before the content.
            offset = file.offset + tarfile.BLOCKSIZE
            rows.append((len(paths) - 1, offset, len(content), label))
            _add(file, name + suffix, content)
            _add(file, name + ".cls", str(label).encode())
            done(len(rows))
    return paths, np.array(rows, dtype=np.int64).reshape(-1, 4)


def _add(file: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    file.addfile(member, io.BytesIO(content))


def _samples(
    shard: int, path: Path, suffixes: Sequence[str]
) -> Iterator[tuple[int, int, int, int]]:
    """(shard, offset, size, label) of each pair in the tar at `path`."""
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, int] = {}
    try:
        members = tar_members(path, "")
    except BROKEN as error:
        raise unreadable(path, error) from error
    for member in members:
        folder, _, base = member.name.rpartition("/")
        stem, _, ending = base.partition(".")
        key = f"{folder}/{stem}"
        if f".{ending.lower()}" in suffixes:
            images[key] = (member.offset or 0, member.size)
        elif ending == "cls":
            text = member.read_bytes()[:20].decode("ascii", "replace").strip()
            if not re.fullmatch(r"\d{1,9}", text):
                raise DataError(
                    f"{path}: {member.name} is {text!r}: expected a label in decimal digits"
                )
            labels[key] = int(text)
        if key in images and key in labels:
            yield shard, *images.pop(key), labels.pop(key)
    if left := sorted(images.keys() ^ labels.keys()):
        what = "label (.cls)" if left[0] in images else "image"
        raise DataError(f"{path}: {left[0].lstrip('/')} has no {what}: make the shard again")


def _write_index(
    path: Path, paths: Sequence[Path], sizes: Sequence[int], table: npt.NDArray[np.int64]
) -> None:
    names = np.array([shard.name for shard in paths])
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, names=names, sizes=np.array(sizes, np.int64), table=table)


def _read_index(
    path: Path, paths: Sequence[Path], sizes: Sequence[int]
) -> npt.NDArray[np.int64] | None:
    """The table of an index that fits these shards; None if there is none."""
    try:
        # NumPy leaves a file open that it cannot read; one that it is given, it does not.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as index:
            names, noted, table = index["names"], index["sizes"], index["table"].astype(np.int64)
    except BROKEN:  # a member may be no array at all
        return None
    there = [shard.name for shard in paths]
    if list(names) != there or list(noted) != list(sizes):
        return None
    if table.shape[1:] != (4,) or not len(table):
        return None
    shard, offset, size, label = table.T
    # Whoever wrote it, nothing outside the shards is read.
    if (table < 0).any() or (shard >= len(paths)).any() or (label >= 10**9).any():
        return None
    ends = np.array(sizes, dtype=np.int64)[shard]
    return table if ((size <= ends) & (offset <= ends - size)).all() else None
