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

from spikeloom.cache_home import cache_root
from spikeloom.data.files.archive import Entry
from spikeloom.errors import DataError


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
    """A data set of numbers, whole; refused if it claims more than the file holds."""
    with reading(source, name):
        found = node[name]
        # a deflated byte stands for at most 1,032; without compression, what is claimed must be
        # there
        there = found.id.get_storage_size() * (1032 if found.compression else 1)
        if np.prod(found.shape, dtype=np.float64) * found.dtype.itemsize > there:
            raise DataError(
                f"{source}: {name} claims {found.shape} values of {found.dtype}, "
                f"{found.id.get_storage_size()} bytes are there; the file is damaged"
            )
        values = np.asarray(found[()])
    if values.dtype.kind not in "iuf":
        raise DataError(f"{source}: {name} holds {values.dtype}, expected numbers")
    return values


def check_lengths(node: Any, name: str, path: Path) -> None:
    """Refuse a data set of variable-length arrays of which one claims more than the file holds.

    HDF5 allocates what an array claims before it looks for it. The claims stand in the file as
    rows of 16 bytes: length u32, address u64, index u32. Where filters hide the rows there is
    nothing to check beforehand.
    """
    with reading(path, name):
        found = node[name]
        limit = path.stat().st_size // _itemsize(found)
        if found.id.get_create_plist().get_nfilters():
            return
        offset = found.id.get_offset()
        if offset is not None:
            places = [(offset, 16 * found.size)]
        else:
            chunks = [found.id.get_chunk_info(k) for k in range(found.id.get_num_chunks())]
            places = [(chunk.byte_offset, chunk.size) for chunk in chunks]
        with open(path, "rb") as file:
            for start, size in places:
                file.seek(start)
                rows = np.frombuffer(file.read(min(size, path.stat().st_size)), np.uint8)
                lengths = rows[: len(rows) // 16 * 16].reshape(-1, 16)[:, :4].copy().view("<u4")
                if lengths.size and lengths.max() > limit:
                    raise DataError(
                        f"{path}: an array of {name} claims {lengths.max()} values, the file has "
                        f"room for {limit}; it is damaged"
                    )


def _itemsize(found: Any) -> int:
    """Bytes of one value of a data set of variable-length arrays."""
    import h5py

    base = h5py.check_vlen_dtype(found.dtype)
    if base is None or np.dtype(base).kind not in "iuf":
        raise ValueError(f"{found.dtype} is no variable-length array of numbers")
    return np.dtype(base).itemsize


def local(entry: Entry) -> Path:
    """Where an entry lies as a plain file, which HDF5 needs; packed ones are unpacked once."""
    if entry.member is None and entry.path.suffix != ".gz":
        return entry.path
    from spikeloom.data.files.archive import unpacked_member

    return unpacked_member(entry, cache_root() / "unpacked")


@lru_cache(maxsize=4)
def _opened(path: Path, mtime: int, size: int) -> Any:
    del mtime, size  # in the key so that a changed file is opened anew
    import h5py

    return h5py.File(path, "r")
