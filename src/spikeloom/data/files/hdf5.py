"""Shared ground of the HDF5 layouts: open a file once per process, and name the file in every
error.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

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
        AttributeError,  # a group where a data set is expected
        OverflowError,
        MemoryError,
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
    """Refuse a data set of variable-length arrays that claims more than the file holds.

    HDF5 allocates what an array claims before it looks for it, and searches its heap without end if
    that is damaged. The claims stand in the file as rows of 16 bytes: length u32, address of a heap
    u64, index in it u32. Where filters hide the rows there is nothing to check beforehand.
    """
    with reading(path, name):
        found = node[name]
        itemsize = _itemsize(found)
        if found.id.get_create_plist().get_nfilters():
            return
        if node.userblock_size or node.id.get_create_plist().get_sizes() != (8, 8):
            raise ValueError("its addresses are not those of a plain file")
        offset = found.id.get_offset()
        if offset is not None:
            places = [(offset, 16 * found.size)]
        else:
            chunks = [found.id.get_chunk_info(k) for k in range(found.id.get_num_chunks())]
            places = [(chunk.byte_offset, chunk.size) for chunk in chunks]
        heaps: dict[int, dict[int, int]] = {}
        with open(path, "rb") as file:
            for start, size in places:
                file.seek(start)
                rows = np.frombuffer(file.read(min(size, path.stat().st_size)), np.uint8)
                for length, heap, index in rows[: len(rows) // 16 * 16].view(_ROW).tolist():
                    if not length:
                        continue
                    if heap not in heaps:
                        heaps[heap] = _objects(file, heap)
                    there = heaps[heap].get(index, 0)
                    if length * itemsize > there:
                        raise DataError(
                            f"{path}: an array of {name} claims {length} values, the file has "
                            f"{there // itemsize} of it; it is damaged"
                        )


_ROW = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])


def _objects(file: BinaryIO, address: int) -> dict[int, int]:
    """Bytes of every object of a global heap, by index; ValueError if they do not fill it.

    "GCOL", version u8, 3 bytes, size u64; then for each object index u16, references u16, 4 bytes,
    size u64, and its content, padded to 8 bytes. Index 0 is what is left over. Source: HDF5 File
    Format Specification, III.E.
    """
    file.seek(address)
    magic, version, size = struct.unpack("<4sB3xQ", _exactly(file, 16))
    if (magic, version) != (b"GCOL", 1):
        raise ValueError(f"no heap at byte {address}")
    found: dict[int, int] = {}
    left = size - 16
    while left >= 16:
        file.seek(address + size - left)
        index, length = struct.unpack("<H6xQ", _exactly(file, 16))
        if index == 0:
            if length != left:
                raise ValueError(f"the heap at byte {address} does not end where it says")
            return found
        left -= 16 + -(-length // 8) * 8
        if left < 0 or index in found:
            raise ValueError(f"the heap at byte {address} is damaged at its object {index}")
        found[index] = length
    return found


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise ValueError("it is cut short")
    return data


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
