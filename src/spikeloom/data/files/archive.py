"""Where raw files lie: a folder, an archive, or a single file, read the same way and in sorted
order.

A folder's own archives are opened too: `CIFAR10DVS/airplane.zip` beside `CIFAR10DVS/bird/...`
works. Members of a zip or an uncompressed tar are read where they are; a compressed tar has no
random access and is unpacked once below the cache folder.

`zipfile` and `tarfile` do the reading. `tarfile`'s own extraction is not used: its filter could be
passed with links and long names until Python 3.11.13, so regular members are written here, and an
archive with anything that could lead elsewhere is refused.
"""

import bz2
import contextlib
import gzip
import hashlib
import lzma
import operator
import os
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from spikeloom.cache_home import cache_root, check_trust, make_own
from spikeloom.errors import DataError

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
SMALL = 64 << 20  # bytes of files that are told apart by their content, not by size and time

_name = operator.attrgetter("name")

BROKEN = (
    *(OSError, EOFError, ValueError, LookupError, ArithmeticError, MemoryError),
    *(SyntaxError, TypeError, AttributeError),
    RuntimeError,  # an encrypted member, an unknown compression
    *(zlib.error, lzma.LZMAError, struct.error, zipfile.BadZipFile, tarfile.TarError),
)
"""What Python's modules, NumPy, h5py and Pillow raise on damaged or foreign files."""


@dataclass(frozen=True)
class Entry:
    """One file: its name with forward slashes below the root, size in bytes, and where it lies.

    `member` is its name inside `path` when that is an archive, `offset` where it begins in a tar.
    `stamp` changes when the content does.
    """

    name: str
    path: Path
    size: int
    stamp: str
    member: str | None = None
    offset: int | None = None

    def read_bytes(self) -> bytes:
        """The whole content."""
        try:
            if self.member is None:
                return self.path.read_bytes()
            if self.offset is None:
                # a table of contents is read once for each process: a fork shares file positions
                return _zip(self.path, stamp(self.path), os.getpid()).read(self.member)
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
            if len(content) < self.size:
                raise EOFError(f"{len(content)} of {self.size} bytes are there")
            return content
        except BROKEN as error:
            raise unreadable(self, error) from error

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}:{self.member}"


def unreadable(source: object, error: BaseException) -> DataError:
    """The error for a file that the operating system or a decompressor gives up on.

    What passes (a lock, too many open files) is not called damage.
    """
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return DataError(f"{source}: cannot be read ({reason}): {advice(error)}")


def advice(error: BaseException) -> str:
    """What to do about an error of the operating system or of a decompressor."""
    import errno

    match getattr(error, "errno", None):
        case errno.EMFILE | errno.ENFILE:
            return "too many files are open: raise the limit (ulimit -n), or take fewer workers"
        case errno.EAGAIN | errno.EDEADLK | errno.ENOLCK:
            return "another program holds a lock on it: close that, or try again"
        case errno.EACCES | errno.EPERM:
            return "allow reading it (chmod u+r)"
        case errno.ENOENT:
            return "it is gone: put it back, or give another folder"
        case errno.ENAMETOOLONG | errno.ENOSPC | errno.EROFS:
            return "free some space, or name another place with $SPIKELOOM_CACHE"
    return "fetch or unpack it again"


def first_line(error: BaseException) -> str:
    """What `error` says, at most 200 letters of one line: of what a file or a library worded."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def stamp(path: Path) -> str:
    """Changes when the file does: size and times, that of the last change of any kind included."""
    info = path.stat()
    return f"{info.st_size} {info.st_mtime_ns} {info.st_ctime_ns}"


def scan(root: Path, archives: str = ".*") -> list[Entry]:
    """Every file below `root` (a folder, an archive, or a file), loose files first, sorted by name.

    Links are followed. Names that begin with a dot are what systems and editors leave behind, and
    no files of a data set. Archives in a folder are opened if their file name matches `archives`,
    in small letters.
    """
    if not root.exists():
        raise DataError(f"{root}: no such file or folder; give an existing path")
    if root.is_file():
        return sorted(_open(root, ""), key=_name)
    loose: list[Entry] = []
    packed: list[Entry] = []
    for path, info in walk(root):
        name = path.relative_to(root).as_posix()
        if is_archive(path) and re.fullmatch(archives, path.name.lower()):
            packed += _open(path, re.sub(r"(\.tar)?\.\w+$", "", name) + "/")
        else:
            loose.append(_entry(path, name, info))
    return sorted(loose, key=_name) + sorted(packed, key=_name)


def walk(
    folder: Path, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[tuple[Path, os.stat_result]]:
    """Files below `folder` that are there, links followed, but not into a folder above."""
    here = os.stat(folder)
    above = above | {(here.st_dev, here.st_ino)}
    try:
        inside = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise unreadable(folder, error) from error
    for entry in inside:
        if hidden(entry.name):
            continue
        try:
            info = entry.stat()
        except OSError:  # a link to nowhere
            continue
        if not stat.S_ISDIR(info.st_mode):
            yield Path(entry.path), info
        elif (info.st_dev, info.st_ino) not in above:
            yield from walk(Path(entry.path), above)


def hidden(name: str) -> bool:
    """Whether a system or an editor left a file or folder of this name behind."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def matching(entries: Iterable[Entry], pattern: str) -> Iterator[tuple[re.Match[str], Entry]]:
    """Entries whose name ends in `pattern` (a regular expression), the first of equal matches only.

    A file that lies there loose wins over the same file in an archive beside it.
    """
    expression = re.compile(rf"(?:^|/)({pattern})$")
    seen: set[str] = set()
    for entry in entries:
        match = expression.search(entry.name)
        if match and match[1] not in seen:
            seen.add(match[1])
            yield match, entry


def split_files(entries: Iterable[Entry], pattern: str) -> dict[str, Entry]:
    """The file of each split that the group of `pattern` names: none, or at least train, test."""
    files = {match[2]: entry for match, entry in matching(entries, pattern)}
    for split in ("train", "test"):
        if files and split not in files:
            raise DataError(f"{next(iter(files.values()))}: the {split} file beside it is missing")
    return files


def fingerprint(entries: Iterable[Entry]) -> str:
    """A digest that is equal as long as nothing was added, removed or changed.

    Of names and contents where that is quick, else of names, sizes and times.
    """
    entries = sorted(entries, key=_name)
    small = sum(entry.size for entry in entries) <= SMALL
    digest = hashlib.sha256()
    for entry in entries:
        mark = hashlib.sha256(entry.read_bytes()).hexdigest() if small else entry.stamp
        digest.update(f"{entry.name}\0{entry.size}\0{mark}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def read_members(archive: Path, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Name and content of the plain files called `names` in a `.tar.gz`, in the archive's order.

    They come as a stream: nothing is written to the disk. Raises `DataError` if it is damaged, its
    check sum included, or a member is missing.
    """
    missing = set(names)
    try:
        with _streamed(archive) as tar:
            for info in tar:
                name = info.name.removeprefix("./")
                if name in missing and info.isreg() and (file := tar.extractfile(info)):
                    content = file.read()
                    if len(content) != info.size:
                        raise EOFError(f"member {name} is cut short")
                    missing.discard(name)
                    yield name, content
    except BROKEN as error:
        raise unreadable(archive, error) from error
    if missing:
        raise DataError(f"{archive}: has no file {min(missing)}: fetch the archive again")


@contextlib.contextmanager
def _streamed(path: Path) -> Iterator[tarfile.TarFile]:
    """A compressed tar, read to its end, where its check sum is compared."""
    unpack: Any = {".xz": lzma.open, ".bz2": bz2.open}.get(path.suffix.lower(), gzip.open)
    # as a stream ("r|"): tarfile otherwise asks for as much memory as a header says
    with unpack(path) as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
        yield tar
        while plain.read(1 << 20):
            pass


def unpacked(path: Path, below: Path) -> Path:
    """The content of a compressed tar as a folder, unpacked once into the folder `below`."""

    def unpack(place: Path) -> None:
        place.mkdir()
        with _streamed(path) as archive:
            for info in archive:
                parts = PurePosixPath(info.name).parts
                if info.isdir():
                    continue
                if not info.isreg() or not parts or ".." in parts or parts[0] == "/":
                    kind = "is a link or a device" if not info.isreg() else "leads elsewhere"
                    raise ValueError(f"member {info.name!r} {kind}")
                target = place.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                source = archive.extractfile(info)
                with open(target, "xb") as plain:
                    shutil.copyfileobj(source, plain, 1 << 20)  # type: ignore[arg-type]

    return _made_once(path, stamp(path), below, unpack)


def local(entry: Entry) -> Path:
    """An entry as a plain file, which HDF5 needs; packed ones are unpacked once."""
    if entry.member is None and entry.path.suffix != ".gz":
        return entry.path

    def unpack(place: Path) -> None:
        if entry.member is not None:
            place.write_bytes(entry.read_bytes())
            return
        with gzip.open(entry.path) as packed, open(place, "xb") as plain:
            shutil.copyfileobj(packed, plain, 1 << 20)

    return _made_once(Path(str(entry)), entry.stamp, cache_root() / "unpacked", unpack)


def _made_once(path: Path, stamp: str, below: Path, unpack: Callable[[Path], None]) -> Path:
    """What `unpack(place)` makes out of `path`; it appears whole or not at all."""
    key = hashlib.sha256(f"{path.absolute()}\0{stamp}".encode("utf-8", "surrogateescape"))
    plain_name = re.sub(r"(.tar)?[.](gz|tgz|xz|bz2)$", "", path.name)[-100:]
    target = below / f"{key.hexdigest()[:16]}-{plain_name}"
    check_trust(below.parent, below)
    if target.exists():
        return target
    try:
        make_own(below)
        place = tempfile.TemporaryDirectory(
            prefix=".unpack-", dir=below, ignore_cleanup_errors=True
        )
        with place as work:
            unpack(Path(work, "it"))
            os.replace(Path(work, "it"), target)
    except BROKEN as error:
        if not target.exists():  # else another process was faster, with the same content
            raise DataError(
                f"{path}: cannot be unpacked into {below} ({error}); {advice(error)}"
            ) from error
    return target


def _open(path: Path, prefix: str) -> list[Entry]:
    """The entries of one file: itself, or its members if it is an archive."""
    if not is_archive(path):
        return [_entry(path, prefix + path.name)]
    try:
        if path.suffix.lower() == ".zip":
            return _zip_members(path, prefix)
        if path.suffix.lower() == ".tar":
            return tar_members(path, prefix)
    except BROKEN as error:
        raise unreadable(path, error) from error
    folder = unpacked(path, cache_root() / "unpacked")
    return [
        _entry(file, prefix + file.relative_to(folder).as_posix(), info)
        for file, info in walk(folder)
    ]


def _zip_members(path: Path, prefix: str) -> list[Entry]:
    entries = []
    for info in _zip(path, stamp(path), os.getpid()).infolist():
        if info.is_dir() or hidden(PurePosixPath(info.filename).name):
            continue
        if info.filename.endswith(".zip"):
            raise DataError(
                f"{path}: holds an archive, {info.filename}; unpack the outer one and give its "
                "folder"
            )
        if not info.filename.startswith("__MACOSX"):
            mark = f"crc {info.CRC:08x}"
            entries.append(Entry(prefix + info.filename, path, info.file_size, mark, info.filename))
    return entries


def tar_members(path: Path, prefix: str) -> list[Entry]:
    """The regular files in an uncompressed tar, with where they begin."""
    mark = stamp(path)
    end = path.stat().st_size
    entries = []
    with tarfile.open(path, "r:") as archive:
        for info in archive:
            if not info.isreg() or info.issparse() or hidden(PurePosixPath(info.name).name):
                continue
            if info.size > end - info.offset_data:
                raise ValueError(f"member {info.name} claims {info.size} bytes")
            entries.append(
                Entry(prefix + info.name, path, info.size, mark, info.name, info.offset_data)
            )
    return entries


@lru_cache(maxsize=16)
def _zip(path: Path, stamp: str, process: int) -> zipfile.ZipFile:
    del stamp, process  # in the key: a changed file and another process open it anew
    return zipfile.ZipFile(path)


def _entry(path: Path, name: str, info: os.stat_result | None = None) -> Entry:
    info = info or path.stat()
    return Entry(name, path, info.st_size, f"{info.st_mtime_ns} {info.st_ctime_ns}")


def is_archive(path: Path) -> bool:
    """Whether a file's name is that of an archive."""
    return path.name.lower().endswith(ARCHIVES)
