"""Shared ground of the HDF5 layouts: open a file once per process, and name the file in every
error.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikeloom.data.archive import Entry
from spikeloom.errors import DataError

LARGEST_RECORDING = 1 << 28  # values; two hundred times the largest published recording


@contextmanager
def reading(source: object, what: str) -> Iterator[None]:
    """Turns whatever h5py or NumPy raises on damaged or foreign content into a `DataError`."""
    try:
        yield
    except DataError:
        raise
    except (
        OSError,
        KeyError,
        ValueError,
        TypeError,
        IndexError,
        RuntimeError,
        zlib.error,
    ) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{source}: {what} cannot be read ({text}); the file is damaged or of another layout"
        ) from error


def opened(path: Path) -> Any:
    """The `h5py.File` at `path`, open for reading; the last few stay open in each process."""
    with reading(path, "the file"):
        stat = path.stat()
        return _opened(path, stat.st_mtime_ns, stat.st_size)


def column(node: Any, name: str, source: object) -> npt.NDArray[Any]:
    """A one- or two-dimensional data set of numbers, whole; refused if it claims more than a
    recording can be.
    """
    with reading(source, name):
        found = node[name]
        if int(np.prod(found.shape, dtype=np.float64)) > LARGEST_RECORDING:
            raise DataError(
                f"{source}: {name} claims {found.shape} values, expected at most "
                f"{LARGEST_RECORDING}; "
                "the file is damaged"
            )
        values = np.asarray(found[()])
    if values.dtype.kind not in "iuf":
        raise DataError(f"{source}: {name} holds {values.dtype}, expected numbers")
    return values


def local(entry: Entry) -> Path:
    """Where an entry lies as a plain file, which HDF5 needs; packed ones are unpacked once."""
    if entry.member is None and entry.path.suffix != ".gz":
        return entry.path
    from spikeloom.data.archive import unpacked_member
    from spikeloom.data.cache import cache_root

    return unpacked_member(entry, cache_root() / "unpacked")


@lru_cache(maxsize=4)
def _opened(path: Path, mtime: int, size: int) -> Any:
    del mtime, size  # in the key so that a changed file is opened anew
    import h5py

    return h5py.File(path, "r")
