"""AEDAT 2.0 and 3.1, the file formats of the DVS128 camera and of jAER and cAER.

Both start with text lines that begin with `#`.

2.0: then big-endian uint32 pairs (address, time stamp in microseconds).
3.1: then packets: a little-endian header of 28 bytes
         type u16, source u16, event size u32, time stamp offset u32, overflow u32, capacity u32,
         number u32, valid u32
     and `capacity * size` bytes. Type 1 is polarity events: word 0 has x in bits 17-31, y in bits
     2-16 and p in bit 1; word 1 is the time stamp, to which the packet's overflow counter adds
     multiples of 2^31. Packets of other types are skipped; the validity bit is ignored.
"""

import struct
from typing import Literal

import numpy as np
import numpy.typing as npt

from spikeloom.data.events.array import Columns, Events, events
from spikeloom.errors import DataError

DVS128 = (2, 128, 128)
HEADER_END = b"#!END-HEADER"
PACKET = struct.Struct("<HHIIIIII")
POLARITY = 1

Axes = Literal["xy", "yx"]


def read_aedat2(data: bytes, source: object = "AEDAT 2 data", axes: Axes = "xy") -> Events:
    """Events of a DVS128 recording in AEDAT 2.0 (the layout of CIFAR10-DVS).

    `axes` decides which field of the address is x. "xy", as in the PLIF and DSR programs:
    `x = 127 - (bits 1-7)`, `y = bits 8-14`. "yx", as in the GLIF program (a later SpikingJelly), is
    the transposed picture: `x = 127 - (bits 8-14)`, `y = 127 - (bits 1-7)`. Both have `p = 1 - bit
    0`.
    """
    _check_start(data, b"#", source)
    offset = _skip_text(data)
    address, t = _pairs(data, offset)
    body = len(data) - offset
    if body % 8:
        raise DataError(
            f"{source}: {body} bytes of events after byte {offset}, expected a multiple of 8; "
            f"the file is cut short at byte {len(data)}"
        )
    x, y, p = _dvs128(address)
    x, y = (x, y) if axes == "xy" else (127 - y, x)
    return events(t, x, y, p, DVS128, source=source)


def read_aedat3(data: bytes, *, source: object = "AEDAT 3.1 data") -> Events:
    """Polarity events of a DVS128 recording in AEDAT 3.1 (the layout of DVS128 Gesture)."""
    columns = aedat3_columns(data, source)
    return events(columns.t, columns.x, columns.y, columns.p, DVS128, source=source)  # type: ignore[arg-type]


def aedat3_columns(data: bytes, source: object = "AEDAT 3.1 data") -> Columns:
    """Polarity events of any camera in AEDAT 3.1."""
    _check_start(data, b"#!AER-DAT3.1", source)
    end = data.find(HEADER_END)
    offset = data.find(b"\n", end) + 1
    if end < 0 or offset == 0:
        raise DataError(f"{source}: no line '#!END-HEADER'; the file is cut short or damaged")
    words: list[npt.NDArray[np.uint32]] = []
    times: list[npt.NDArray[np.int64]] = []
    while offset < len(data):
        if len(data) - offset < PACKET.size:
            raise DataError(
                f"{source}: packet header at byte {offset} needs {PACKET.size} bytes, "
                f"{len(data) - offset} are left; the file is cut short"
            )
        kind, _, size, _, overflow, capacity, number, _ = PACKET.unpack_from(data, offset)
        body = offset + PACKET.size
        if size * capacity > len(data) - body:
            raise DataError(
                f"{source}: packet at byte {offset} claims {capacity} events of {size} bytes, "
                f"{len(data) - body} bytes are left; the file is cut short or damaged"
            )
        if kind == POLARITY:
            if size != 8 or number > capacity:
                raise DataError(
                    f"{source}: polarity packet at byte {offset} has {number} of {capacity} events "
                    f"of {size} bytes, expected at most the capacity, of 8 bytes; the file is "
                    "damaged"
                )
            pairs = np.frombuffer(data, "<u4", count=2 * number, offset=body).reshape(-1, 2)
            words.append(pairs[:, 0])
            times.append(pairs[:, 1].astype(np.int64) + (overflow << 31))
        offset = body + size * capacity
    word = np.concatenate(words) if words else np.zeros(0, np.uint32)
    t = np.concatenate(times) if times else np.zeros(0, np.int64)
    x, y = (word >> 17).astype(np.int32), ((word >> 2) & 0x7FFF).astype(np.int32)
    return Columns(t, x, y, (word >> 1) & 1)


def aedat2_columns(data: bytes, source: object = "AEDAT 2 data") -> Columns:
    """Polarity events of a DVS128 or a DAVIS camera in AEDAT 2.0, in jAER's addresses.

    DVS128: as `read_aedat2`. DAVIS: polarity bit 11, x bits 12-21, y bits 22-30; bit 31 marks
    pictures and motion sensors, bit 10 other signals, neither of which is an event.
    """
    _check_start(data, b"#!AER-DAT2.0", source)
    offset = _skip_text(data)
    address, t = _pairs(data, offset)
    cut = (len(data) - offset) % 8
    if b"DAVIS" not in data[:offset].upper() and not (address > 0xFFFF).any():
        return Columns(t, *_dvs128(address), size=DVS128[1:], cut=cut)
    address, t = (column[(address & (1 << 31 | 1 << 10)) == 0] for column in (address, t))
    x, y, p = (address >> 12) & 1023, (address >> 22) & 511, (address >> 11) & 1
    return Columns(t, x, y, p, cut=cut)


def _check_start(data: bytes, start: bytes, source: object) -> None:
    if not data.startswith(start):
        raise DataError(
            f"{source}: starts with {data[:12]!r}, expected {start.decode()!r}; the file is "
            "damaged or of another version or format"
        )


def _pairs(data: bytes, offset: int) -> npt.NDArray[np.int64]:
    """Addresses and times [2, E] of AEDAT 2.0; what is left at the end is no pair."""
    count = (len(data) - offset) // 8
    return np.frombuffer(data, ">u4", 2 * count, offset).reshape(-1, 2).T.astype(np.int64)


def _dvs128(address: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
    """x, y and p."""
    return 127 - ((address >> 1) & 127), (address >> 8) & 127, 1 - (address & 1)


def _skip_text(data: bytes) -> int:
    """Offset of the first byte after the leading lines that begin with '#'."""
    offset = 0
    while data[offset : offset + 1] == b"#":
        newline = data.find(b"\n", offset)
        if newline < 0:
            return len(data)
        offset = newline + 1
    return offset
