"""Files out of a compressed archive, read as a stream into memory.

Nothing is written to the disk, so a member called `../../x` or a link is only a name that nobody
asked for.
"""

import gzip
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, cast

from spikeloom.data.files.places import unreadable
from spikeloom.errors import DataError

_CHUNK = 1 << 20


def read_members(archive: Path, members: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
    """Name and content of `members` of a `.tar.gz`, each given with the largest size it may have.

    They come in the order of the archive. Raises `DataError` if the archive is damaged, its
    checksum included, or a member is missing, too large, or no plain file.
    """
    found: set[str] = set()
    try:
        with gzip.open(archive) as unpacked:
            # As a stream ("r|") because tarfile otherwise asks for as much memory as a header says.
            with tarfile.open(fileobj=cast(IO[bytes], unpacked), mode="r|") as tar:
                for info in tar:
                    name = info.name.removeprefix("./")
                    if name in members and name not in found:
                        found.add(name)
                        yield name, _content(archive, tar, info, members[name])
            # gzip compares its checksum only at its end.
            while unpacked.read(_CHUNK):
                pass
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError) as error:
        raise unreadable(archive, error) from error
    for name in members:
        if name not in found:
            raise DataError(f"{archive}: has no member {name}: fetch the archive again")
    return found


def _content(archive: Path, tar: tarfile.TarFile, info: tarfile.TarInfo, most: int) -> bytes:
    if info.size > most:
        raise DataError(
            f"{archive}: member {info.name}: {info.size:,} bytes, expected at most {most:,}: "
            "fetch the archive again"
        )
    file = tar.extractfile(info) if info.isreg() else None
    if file is None:
        raise DataError(f"{archive}: member {info.name} is no plain file: fetch the archive again")
    content = file.read()
    if len(content) != info.size:
        raise DataError(
            f"{archive}: member {info.name}: {len(content):,} bytes of {info.size:,}: "
            "fetch the archive again"
        )
    return content
