"""Writing files so that a name never stands for half a file, keeping others out meanwhile, and
reading JSON and TOML from strangers.

Python's standard library has neither; the packages that have (atomicwrites, filelock) are no longer
kept, or more than these lines.
"""

import csv
import errno
import fcntl
import io
import json
import math
import os
import re
import secrets
import shutil
import stat
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from spikeloom.errors import ConfigError

TEMPORARY = ".tmp"
"""The end of the name of a file that is not finished; such a file may be deleted."""

TOML_DEPTH = 16
"""Tables and lists within each other; a recipe has four."""


@contextmanager
def replacing(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """A new, empty file beside `path`, which takes the place of `path` when the block ends.

    After an error, a full disk for example, the new file is gone and `path` is as it was. The
    folder is made if there is none. A link in the place of `path` is replaced, not followed.

    Args:
        path: The file to make or to replace.
        sync: Bring it to the disk first, so that it survives a power failure too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    # O_EXCL: whatever lies under that name, a link to somewhere else too, is an error
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        if sync:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write(path: Path, content: bytes | str, *, sync: bool = False) -> None:
    """Makes `path` hold `content` (text as UTF-8), in one instant."""
    with replacing(path, sync=sync) as temporary:
        temporary.write_bytes(_encoded(content))


def deliver(path: Path, content: bytes | str) -> None:
    """`write` to a place that a user named, who may have named a pipe or a device such as
    `/dev/stdout`: that is written to."""
    if path.exists() and not path.is_file() and not path.is_dir():
        with open(path, "wb") as file:
            file.write(_encoded(content))
    else:
        write(path, content)


def deliver_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """`deliver` rows as CSV, the first of them the columns' names.

    A text that a spreadsheet would take for a formula begins with an apostrophe: titles and layers
    are a stranger's, who could have it run a program.
    """
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_inert(value) for value in row] for row in rows)
    deliver(path, text.getvalue())


def _inert(value: object) -> object:
    formula = isinstance(value, str) and value.lstrip().startswith(("=", "+", "-", "@"))
    return f"'{value}" if formula else value


def link(source: Path, name: Path) -> None:
    """Gives the file `source` the second name `name`, replacing what had it, in one instant."""
    if name.exists() and name.samefile(source):
        return  # renaming one name of a file onto another name of the same file does nothing
    temporary = _beside(name)
    try:
        os.link(source, temporary)
    except OSError:  # a file system without hard links
        with replacing(name, sync=True) as temporary:
            shutil.copyfile(source, temporary)
    else:
        os.replace(temporary, name)


def open_to_append(path: Path) -> BinaryIO:
    """`path` to write on at its end, made if it is not there.

    Raises:
        OSError: it is a link, or no ordinary file.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    file = open(os.open(path, flags, 0o666), "ab")  # noqa: SIM115 - the caller's
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not an ordinary file", str(path))
    return file


def parse_json(text: bytes | str) -> Any:
    """JSON as it is written here: finite, and not nested without end.

    Raises:
        ValueError: it is something else.
    """

    def refuse(value: str) -> None:
        raise ValueError(f"{value[:20]} is no finite number")

    def number(value: str) -> float:
        return float(value) if math.isfinite(float(value)) else refuse(value)  # type: ignore

    try:
        return json.loads(text, parse_constant=refuse, parse_float=number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of `text`, nested no deeper and with no larger numbers than everything behind it
    can take.

    Raises:
        ConfigError: it is something else; the text names the line.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason = str(error)
        place = re.search(r" \(at line (\d+), column (\d+)\)$", reason)
        if place:
            reason, line = reason[: place.start()], int(place[1])
        else:
            reason, line = reason.removesuffix(" (at end of document)"), text.count("\n") + 1
        raise ConfigError(f"line {line}: not valid TOML: {reason}") from None
    except RecursionError:
        raise ConfigError(f"nested more than {TOML_DEPTH} deep") from None
    except ValueError:  # of int: thousands of digits
        raise ConfigError("an integer has more than 64 bits") from None
    _check_toml(values, TOML_DEPTH)
    return values


def _check_toml(value: object, depth: int) -> None:
    if isinstance(value, dict | list):
        if depth == 0:
            raise ConfigError(f"nested more than {TOML_DEPTH} deep")
        for item in value.values() if isinstance(value, dict) else value:
            _check_toml(item, depth - 1)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ConfigError("an integer has more than 64 bits")


def _beside(path: Path) -> Path:
    """A name that nobody else writes to and nobody could know, no longer than a name may be."""
    start = os.fsdecode(os.fsencode(path.name)[:200])
    return path.with_name(f"{start}.{secrets.token_hex(8)}{TEMPORARY}")


def _encoded(content: bytes | str) -> bytes:
    # the name of a file may hold bytes that are no UTF-8
    return content.encode(errors="backslashreplace") if isinstance(content, str) else content


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
        OSError: it is a link.
    """
    with open_to_append(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
