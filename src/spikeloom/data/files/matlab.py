"""The part of MATLAB's .mat files that event data sets use: structs of numeric arrays, versions 5
and 7.3.

Version 5 is a header of 128 bytes and then data elements: a tag (type u32, bytes u32) or, when the
upper half of the type is not 0, a small element with its size and up to four bytes in the tag;
elements are padded to 8 bytes. A matrix element holds sub-elements: flags (class in the lowest
byte), dimensions, name, then for a struct the length and text of its field names and one matrix per
field, for numbers the real part. A compressed element is a zlib stream of one element. Version 7.3
is HDF5 and is read with h5py. Source: MathWorks, "MAT-File Format".
"""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from spikeloom.data.files.hdf5 import column, reading
from spikeloom.errors import DataError

Numbers = npt.NDArray[Any]

NUMBER_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
NUMBER_TYPES |= {12: "i8", 13: "u8", 16: "u1"}
MATRIX, COMPRESSED = 14, 15
STRUCT, FIRST_NUMBER, LAST_NUMBER = 2, 6, 15
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
LARGEST = 1 << 28  # bytes a compressed variable may grow to


def read_struct(data: bytes, name: str, source: object = "MAT data") -> dict[str, Numbers]:
    """The numeric fields of the struct called `name`, each flattened in column order.

    Raises `DataError` if the file is damaged, of version 4, or has no such struct.
    """
    if HDF5_MAGIC in data[:1024]:
        return _read_hdf5(data, name, source)
    if len(data) < 128 or data[126:128] not in (b"IM", b"MI"):
        raise DataError(
            f"{source}: no header of a MAT file of version 5 or 7.3; "
            'save it in MATLAB with save(..., "-v7")'
        )
    order: Literal["<", ">"] = "<" if data[126:128] == b"IM" else ">"
    reader = _Reader(data, 128, len(data), order, source)
    while reader.offset < reader.stop:
        element = reader.element()
        if element.kind == COMPRESSED:
            element = _inflate(element, order, source)
        if element.kind == MATRIX:
            found, fields = _matrix(element)
            if found == name and isinstance(fields, dict):
                return fields
    raise DataError(f"{source}: no struct called {name}; expected the recording in one")


@dataclass
class _Reader:
    """A position in bytes, with the errors that a damaged length would otherwise become."""

    data: bytes
    offset: int
    stop: int
    order: Literal["<", ">"]
    source: object

    def element(self) -> "_Element":
        if self.stop - self.offset < 8:
            raise self.damaged("an element needs 8 bytes")
        kind, size = struct.unpack_from(self.order + "II", self.data, self.offset)
        begin = self.offset + 8
        if kind >> 16:
            kind, size, begin = kind & 0xFFFF, kind >> 16, self.offset + 4
            if size > 4:
                raise self.damaged(f"a small element claims {size} bytes")
            self.offset += 8
        else:
            if size > self.stop - begin:
                raise self.damaged(f"an element claims {size} bytes")
            padded = size if kind == COMPRESSED else -(-size // 8) * 8
            self.offset = min(begin + padded, self.stop)
        return _Element(kind, _Reader(self.data, begin, begin + size, self.order, self.source))

    def damaged(self, what: str) -> DataError:
        return DataError(
            f"{self.source}: at byte {self.offset} {what}, {self.stop - self.offset} are left; "
            "the file is cut short or damaged"
        )


@dataclass
class _Element:
    kind: int
    body: _Reader

    def numbers(self) -> Numbers:
        dtype = NUMBER_TYPES.get(self.kind)
        size = self.body.stop - self.body.offset
        if dtype is None or size % np.dtype(dtype).itemsize:
            raise self.body.damaged(f"{size} bytes of type {self.kind} are no numbers")
        count = size // np.dtype(dtype).itemsize
        return np.frombuffer(
            self.body.data, np.dtype(dtype).newbyteorder(self.body.order), count, self.body.offset
        )

    def text(self) -> str:
        return bytes(self.body.data[self.body.offset : self.body.stop]).decode("latin-1")


def _inflate(element: _Element, order: Literal["<", ">"], source: object) -> _Element:
    packed = element.body.data[element.body.offset : element.body.stop]
    try:
        stream = zlib.decompressobj()
        plain = stream.decompress(packed, LARGEST)
    except zlib.error as error:
        raise element.body.damaged(f"a compressed variable is broken ({error})") from error
    if not stream.eof:
        raise element.body.damaged(f"a compressed variable is cut short or larger than {LARGEST}")
    return _Reader(plain, 0, len(plain), order, source).element()


def _matrix(element: _Element) -> tuple[str, Numbers | dict[str, Numbers] | None]:
    """Name and content of a matrix; None for what is neither numbers nor a struct of them."""
    body = element.body
    flags = body.element().numbers()
    if not len(flags):
        raise body.damaged("a matrix has no flags")
    kind = int(flags[0]) & 0xFF
    dimensions = body.element().numbers()
    name = body.element().text()
    if FIRST_NUMBER <= kind <= LAST_NUMBER:
        values = body.element().numbers()
        if len(values) != int(np.prod(dimensions, dtype=np.float64)):
            raise body.damaged(f"{len(values)} values for dimensions {dimensions.tolist()}")
        return name, values
    if kind != STRUCT:
        return name, None
    width = body.element().numbers()
    names = body.element().text()
    if len(width) != 1 or width[0] < 1 or len(names) % int(width[0]):
        raise body.damaged("a struct has no list of fields")
    step = int(width[0])
    fields: dict[str, Numbers] = {}
    for start in range(0, len(names), step):
        value = body.element()
        content = _matrix(value)[1] if value.body.stop > value.body.offset else None
        if isinstance(content, np.ndarray):
            fields[names[start : start + step].split("\0")[0]] = content
    return name, fields


def _read_hdf5(data: bytes, name: str, source: object) -> dict[str, Numbers]:
    import h5py

    with reading(source, f"struct {name}"), h5py.File(io.BytesIO(data), "r") as file:
        group = file[name]
        if not isinstance(group, h5py.Group):
            raise DataError(f"{source}: {name} is no struct; expected the recording in one")
        return {field: column(group, field, source).reshape(-1) for field in map(str, group)}
