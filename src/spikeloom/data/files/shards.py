"""Many small files in a few large ones: tar shards in the layout of WebDataset, with an index.

    train/000000.tar      00000000.jpg, 00000000.cls, 00000001.jpg, 00000001.cls, ...
    train/000001.tar
    train/index.bin
    classes.txt           one name a line, in the order of labels

A sample is two neighbouring members with the same name up to its first dot: the image file as it
was, and `.cls`, its label in decimal digits. The index says where each image lies, so that any of
them is read by one `pread`, in any order, and no archive is unpacked:

    "spikeloom shards 1\\n", one line of JSON (names and sizes of the shards), then for each sample
    four little-endian int64: shard, offset, size, label

Without an index, or if a shard has another size than it says, the headers of the tars are read once
and the index is written anew, where the folder can be written to.
"""

import contextlib
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikeloom.data.files.archive import BROKEN
from spikeloom.data.files.places import unreadable
from spikeloom.errors import DataError

INDEX = "index.bin"
CLASSES = "classes.txt"

_MAGIC = b"spikeloom shards 1\n"
_COLUMNS = 4
_LONGEST_HEADER = 16 << 20  # bytes of JSON: a hundred thousand shards
_LONGEST_LABEL = 20  # bytes of a .cls member
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
        self._files: OrderedDict[int, int] = OrderedDict()
        self._owner = os.getpid()

    def read(self, index: int) -> bytes:
        """The image file of sample `index`. `DataError` if its shard cannot be read that far."""
        shard, offset, size, _ = self.shards.table[index].tolist()
        path = self.shards.paths[shard]
        try:
            content = os.pread(self._open(shard, path), size, offset)
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

    def __getstate__(self) -> dict[str, object]:
        return {"shards": self.shards}

    def __setstate__(self, state: dict[str, Shards]) -> None:
        self.__init__(state["shards"])

    def _open(self, shard: int, path: Path) -> int:
        if self._owner != os.getpid():  # a fork: what it inherited, the parent closes
            self._files, self._owner = OrderedDict(), os.getpid()
        if shard in self._files:
            self._files.move_to_end(shard)
            return self._files[shard]
        while len(self._files) >= _OPEN:
            os.close(self._files.popitem(last=False)[1])
        self._files[shard] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self._files[shard]

    def __del__(self) -> None:
        if self._owner == os.getpid():
            for handle in self._files.values():
                with contextlib.suppress(OSError):
                    os.close(handle)


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
    work = Path(tempfile.mkdtemp(prefix=".shards-", dir=folder.parent))
    file: tarfile.TarFile | None = None
    try:
        rows: list[tuple[int, int, int, int]] = []
        paths: list[Path] = []
        for content, suffix, label in samples:
            if file is not None and file.offset >= shard_bytes:
                file.close()
                file = None
            if file is None:
                paths.append(work / f"{len(paths):06d}.tar")
                file = tarfile.open(paths[-1], "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
            name = f"{len(rows):08d}"
            # A header of one block comes before the content.
            rows.append((len(paths) - 1, file.offset + tarfile.BLOCKSIZE, len(content), label))
            _add(file, name + suffix, content)
            _add(file, name + ".cls", str(label).encode())
            done(len(rows))
        if file is not None:
            file.close()
        table = np.array(rows, dtype=np.int64).reshape(-1, _COLUMNS)
        _write_index(work / INDEX, paths, [path.stat().st_size for path in paths], table)
        work.chmod(0o755)
        os.replace(work, folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}): make room") from error
    finally:
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()
        shutil.rmtree(work, ignore_errors=True)
    return Shards(tuple(folder / path.name for path in paths), table)


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
    end = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if not member.isreg() or member.issparse():
                    continue
                if member.size > end - member.offset_data:
                    raise DataError(
                        f"{path}: {member.name} claims {member.size} bytes at "
                        f"{member.offset_data}, the shard has {end}: fetch or make it again"
                    )
                folder, _, base = member.name.rpartition("/")
                stem, _, ending = base.partition(".")
                key = f"{folder}/{stem}"
                if f".{ending.lower()}" in suffixes:
                    images[key] = (member.offset_data, member.size)
                elif ending == "cls":
                    labels[key] = _label(archive, member, path)
                if key in images and key in labels:
                    yield shard, *images.pop(key), labels.pop(key)
    except BROKEN as error:
        raise DataError(
            f"{path}: cannot be read as a tar ({error}): fetch or make it again"
        ) from error
    if left := sorted(images.keys() ^ labels.keys()):
        what = "label (.cls)" if left[0] in images else "image"
        raise DataError(f"{path}: {left[0].lstrip('/')} has no {what}: make the shard again")


def _label(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> int:
    file = archive.extractfile(member)
    text = file.read(_LONGEST_LABEL).decode("ascii", "replace").strip() if file else ""
    if not re.fullmatch(r"\d{1,9}", text):
        raise DataError(f"{path}: {member.name} is {text!r}: expected a label in decimal digits")
    return int(text)


def _write_index(
    path: Path, paths: Sequence[Path], sizes: Sequence[int], table: npt.NDArray[np.int64]
) -> None:
    about = {"shards": [[shard.name, size] for shard, size in zip(paths, sizes, strict=True)]}
    content = _MAGIC + json.dumps(about).encode() + b"\n" + table.astype("<i8").tobytes()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_index(
    path: Path, paths: Sequence[Path], sizes: Sequence[int]
) -> npt.NDArray[np.int64] | None:
    """The table of an index that fits these shards; None if there is none."""
    try:
        with open(path, "rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return None
            about = json.loads(file.readline(_LONGEST_HEADER))
            table = np.frombuffer(file.read(), dtype="<i8").astype(np.int64).reshape(-1, _COLUMNS)
    except (OSError, ValueError, RecursionError):
        return None
    there = [[shard.name, size] for shard, size in zip(paths, sizes, strict=True)]
    if not isinstance(about, dict) or about.get("shards") != there or not len(table):
        return None
    shard, offset, size, label = table.T
    # Whoever wrote it, nothing outside the shards is read.
    if (table < 0).any() or (shard >= len(paths)).any() or (label >= 10**9).any():
        return None
    ends = np.array(sizes, dtype=np.int64)[shard]
    return table if ((size <= ends) & (offset <= ends - size)).all() else None
