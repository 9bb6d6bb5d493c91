"""Where raw files lie: a folder, an archive, or a single file, read the same way and in sorted
order.

A folder's own archives are opened too: `CIFAR10DVS/airplane.zip` beside `CIFAR10DVS/bird/...`
works. Members of a zip or an uncompressed tar are read where they are; a compressed tar has no
random access and is unpacked once below the cache folder.
"""

import gzip
import hashlib
import lzma
import os
import re
import shutil
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from spikeloom.cache_home import cache_root, check_trust, make_own
from spikeloom.errors import DataError

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
LARGEST_MEMBER = 4 << 30  # bytes; the largest published recording is a tenth of it

BROKEN = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    tarfile.TarError,
    ValueError,
    LookupError,
    RuntimeError,  # an encrypted member, an unknown compression
    OverflowError,
    MemoryError,
)
"""What Python's archive modules raise on damaged or foreign archives."""


@dataclass(frozen=True)
class Entry:
    """One file: its name with forward slashes below the root, size in bytes, and where it lies.

    `member` is its name inside `path` when that is an archive. `stamp` changes when the content
    does.
    """

    name: str
    path: Path
    size: int
    stamp: str
    member: str | None = None

    def read(self) -> bytes:
        """The whole content."""
        try:
            if self.member is None:
                return self.path.read_bytes()
            if self.path.suffix == ".zip":
                with zipfile.ZipFile(self.path) as archive:
                    return archive.read(self.member)
            with tarfile.open(self.path) as archive:
                file = archive.extractfile(self.member)
                return file.read() if file else b""
        except BROKEN as error:
            raise DataError(
                f"{self}: cannot be read ({error}); fetch or unpack it again"
            ) from error

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}:{self.member}"


def scan(root: Path, archives: str = ".*") -> list[Entry]:
    """Every file below `root` (a folder, an archive, or a file), loose files first, sorted by name.

    Archives in a folder are opened if their file name matches `archives`, in small letters.
    """
    if not root.exists():
        raise DataError(f"{root}: no such file or folder; give an existing path")
    if root.is_file():
        return sorted(_open(root, ""), key=_name)
    loose: list[Entry] = []
    packed: list[Entry] = []
    for folder, folders, files in os.walk(root):
        folders.sort()
        for file in files:
            path = Path(folder) / file
            name = path.relative_to(root).as_posix()
            if _is_archive(path) and re.fullmatch(archives, file.lower()):
                packed += _open(path, re.sub(r"(\.tar)?\.\w+$", "", name) + "/")
            else:
                loose.append(_entry(path, name))
    return sorted(loose, key=_name) + sorted(packed, key=_name)


def matching(entries: list[Entry], pattern: str) -> Iterator[tuple[re.Match[str], Entry]]:
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


def fingerprint(entries: list[Entry]) -> str:
    """A digest of names, sizes and stamps: equal as long as nothing was added, removed or
    changed.
    """
    digest = hashlib.sha256()
    for entry in sorted(entries, key=_name):
        digest.update(f"{entry.name}\0{entry.size}\0{entry.stamp}\n".encode())
    return digest.hexdigest()


def unpacked(path: Path, below: Path) -> Path:
    """The content of a compressed tar as a folder, unpacked once into the folder `below`."""

    def unpack(place: Path) -> None:
        with tarfile.open(path) as archive:
            archive.extractall(place, filter="data")

    return _made_once(path, str(path.stat().st_mtime_ns), below, unpack)


def unpacked_member(entry: Entry, below: Path) -> Path:
    """A member of an archive, or the content of a .gz file, as a file of its own in the folder
    `below`.
    """

    def unpack(place: Path) -> None:
        if entry.member is not None:
            place.write_bytes(entry.read())
            return
        with gzip.open(entry.path) as packed, open(place, "wb") as plain:
            shutil.copyfileobj(packed, plain, 1 << 20)

    return _made_once(Path(str(entry)), entry.stamp, below, unpack)


def _made_once(path: Path, stamp: str, below: Path, unpack: Callable[[Path], None]) -> Path:
    """What `unpack(place)` makes out of `path`; it appears whole or not at all."""
    key = hashlib.sha256(f"{path.absolute()}\0{stamp}".encode()).hexdigest()
    target = below / f"{key[:16]}-{re.sub(r'(.tar)?[.](gz|tgz|xz|bz2)$', '', path.name)}"
    check_trust(below.parent, below)
    if target.exists():
        return target
    work = None
    try:
        make_own(below)
        work = Path(tempfile.mkdtemp(prefix=".unpack-", dir=below))
        unpack(work / "it")
        os.replace(work / "it", target)
    except BROKEN as error:
        if not target.exists():  # else another process was faster, with the same content
            raise DataError(
                f"{path}: cannot be unpacked into {below} ({error}); unpack it by hand"
            ) from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
    return target


def _open(path: Path, prefix: str) -> list[Entry]:
    """The entries of one file: itself, or its members if it is an archive."""
    if not _is_archive(path):
        return [_entry(path, prefix + path.name)]
    try:
        if path.suffix == ".zip":
            return _zip_members(path, prefix)
        if path.suffix == ".tar":
            return _tar_members(path, prefix)
    except BROKEN as error:
        raise DataError(
            f"{path}: cannot be read as an archive ({error}); fetch it again"
        ) from error
    folder = unpacked(path, cache_root() / "unpacked")
    return [
        _entry(file, prefix + file.relative_to(folder).as_posix())
        for file in folder.rglob("*")
        if file.is_file()
    ]


def _zip_members(path: Path, prefix: str) -> list[Entry]:
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
    for info in infos:
        if info.file_size > LARGEST_MEMBER:
            raise DataError(
                f"{path}: member {info.filename} claims {info.file_size} bytes, expected at most "
                f"{LARGEST_MEMBER}; the archive is damaged"
            )
        if info.filename.endswith(".zip"):
            raise DataError(
                f"{path}: holds an archive, {info.filename}; unpack the outer one and give its "
                "folder"
            )
    return [
        Entry(prefix + info.filename, path, info.file_size, f"crc {info.CRC:08x}", info.filename)
        for info in infos
    ]


def _tar_members(path: Path, prefix: str) -> list[Entry]:
    stamp = str(path.stat().st_mtime_ns)
    with tarfile.open(path) as archive:
        return [
            Entry(prefix + member.name, path, member.size, stamp, member.name)
            for member in archive
            if member.isfile()
        ]


def _entry(path: Path, name: str) -> Entry:
    stat = path.stat()
    return Entry(name, path, stat.st_size, str(stat.st_mtime_ns))


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVES)


def _name(entry: Entry) -> str:
    return entry.name
