"""Structs of numbers in MATLAB's .mat files: version 5 here, 7.3 with h5py.

A file of version 5 is a header of 128 bytes, whose last two tell the order of bytes, and elements:
uint32 kind, uint32 size, the content, and what is missing to a multiple of 8. Up to four bytes of
content may stand beside a short tag: uint16 kind, uint16 size. Kind 15 is packed with zlib; a
matrix, kind 14, holds elements: flags, dimensions, name, then of numbers their values, and of a
struct the length of a field's name, the names, and a matrix for each.

Our own: scipy's compiled reader follows the tags of a damaged file out of its memory, and ends the
process (scipy 1.17). Source: MathWorks, "MAT-File Format".
"""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from spikeloom.data.files.hdf5 import column, reading
from spikeloom.errors import DataError

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
HEADER = 128
PACKED, MATRIX = 15, 14
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
NUMBERS |= {12: "i8", 13: "u8"}
"""The type of the values of an element, by its kind."""


def read_struct(data: bytes, name: str, source: object = "MAT data") -> dict[str, npt.NDArray[Any]]:
    """The numeric fields of the struct called `name`, each flattened in column order.

    Raises `DataError` if the file is damaged, or has no such struct.
    """
    if HDF5_MAGIC in data[:1024]:
        import h5py

        with reading(source, f"struct {name}"), h5py.File(io.BytesIO(data), "r") as file:
            group: Any = file[name]
            return {field: column(group, field, source).reshape(-1) for field in group}
    with reading(source, f"struct {name}"):
        order = {b"IM": "<", b"MI": ">"}[data[HEADER - 2 : HEADER]]
        for kind, content in _elements(data[HEADER:], order):
            if kind == PACKED:
                ((kind, content),) = _elements(zlib.decompress(content), order)
            parts = [*_elements(content, order)] if kind == MATRIX else []
            if len(parts) > 4 and parts[2][1] == name.encode():
                (width,), names = np.frombuffer(parts[3][1], f"{order}i4"), parts[4][1]
                fields = [names[at : at + width] for at in range(0, len(names), max(width, 1))]
                values = [_numbers(matrix, order) for _, matrix in parts[5:]]
                texts = [field.partition(b"\0")[0].decode() for field in fields]
                pairs = zip(texts, values, strict=True)
                return {field: numbers for field, numbers in pairs if numbers is not None}
    raise DataError(f"{source}: has no struct called {name}; the file is of another layout")


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each element in `data`."""
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise ValueError(f"it ends inside a tag, at byte {at}")
        kind, size = struct.unpack_from(f"{order}II", data, at)
        begin, limit = at + 8, len(data)
        if kind >> 16:
            kind, size, begin, limit = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        end = begin + size
        if end > limit:
            raise ValueError(f"byte {at}: an element of {size} bytes, {limit - begin} are there")
        yield kind, data[begin:end]
        at = end if kind == PACKED else -(-end // 8) * 8


def _numbers(matrix: bytes, order: str) -> npt.NDArray[Any] | None:
    """The values of a matrix of real numbers, column by column; None for another one."""
    parts = [*_elements(matrix, order)]
    if len(parts) != 4 or parts[3][0] not in NUMBERS:
        return None
    kind, content = parts[3]
    return np.frombuffer(content, order + NUMBERS[kind])
