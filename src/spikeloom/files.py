"""Writing files so that a name never stands for half a file, and keeping others out meanwhile.

Python's standard library has neither; the packages that have (atomicwrites, filelock) are no longer
kept, or more than these lines.
"""

import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".tmp"
"""The end of the name of a file that is not finished; such a file may be deleted."""


@contextmanager
def replacing(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """The name of a new file beside `path`, which takes the place of `path` when the block ends.

    After an error, a full disk for example, the new file is gone and `path` is as it was. The
    folder is made if there is none.

    Args:
        path: The file to make or to replace.
        sync: Bring it to the disk first, so that it survives a power failure too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    number = f"{os.getpid()}-{threading.get_ident()}"
    temporary = path.with_name(f"{path.name}.{number}{TEMPORARY}")
    try:
        yield temporary
        if sync:
            sync_file(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write(path: Path, content: bytes | str, *, sync: bool = False) -> None:
    """Makes `path` hold `content` (text as UTF-8), in one instant."""
    with replacing(path, sync=sync) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def link(source: Path, name: Path) -> None:
    """Gives the file `source` the second name `name`, replacing what had it, in one instant."""
    if name.exists() and name.samefile(source):
        return  # renaming one name of a file onto another name of the same file does nothing
    with replacing(name) as temporary:
        try:
            os.link(source, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(source, temporary)
            sync_file(temporary)


def sync_file(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Brings the names in `folder` to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds the lock file `path` alone among processes; it is free when its holder is gone.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
    """
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
