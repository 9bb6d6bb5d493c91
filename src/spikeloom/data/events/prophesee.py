"""Prophesee's recordings: .raw in EVT 2.0, 2.1 and 3.0, and .dat.

All begin with text lines that start with `%` (a line `% end` may close them).

EVT2    32-bit words: type in bits 28-31. 0 OFF and 1 ON: time bits 22-27, x 11-21, y 0-10;
        8: the upper 28 bits of the time
EVT2.1  64-bit words: type in bits 60-63. 0 OFF and 1 ON: time bits 54-59, x of the first of 32
        pixels 43-53, y 32-42, which of them fired 0-31; 8: upper 28 bits of the time in 32-59. In
        "legacy" files the halves of a word are exchanged, which is seen by the words of the time
EVT3    16-bit words: type in bits 12-15. 0: y (0-10); 2: one event, x 0-10, polarity bit 11;
        3: x and polarity of the next vectors; 4 and 5: which of the next 12 or 8 pixels fired;
        6 and 8: lower and upper 12 bits of the time
.dat    a byte with the type and one with the size of an event (8), then pairs of 32 bits: time,
        and x 0-13, y 14-27, polarity 28-31

The times count microseconds and wrap; the wraps are counted. Our own, with numpy: of the kept
decoders expelliarmus is under the GPL and faery knows no EVT2.1, evlib brings polars and pyarrow;
the tests read what they write. Source: Prophesee's documentation of its data formats.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from spikeloom.data.events.array import Columns
from spikeloom.errors import DataError

Words = npt.NDArray[np.unsignedinteger[Any]]
Ints = npt.NDArray[np.int64]


def read_raw(data: bytes, source: object = "RAW data") -> Columns:
    """Events of a .raw file of any of the three versions."""
    head, offset = _header(data)
    line = re.search(r"^% (?:evt (\d\.\d)|format (EVT\d+))", head, re.MULTILINE)
    version = line[1] or line[2] if line else "none"
    if version not in VERSIONS:
        raise DataError(
            f"{source}: the header names the version {version!r}, expected a line '% evt' with "
            "2.0, 2.1 or 3.0; the file is damaged or of another format"
        )
    decode, width = VERSIONS[version]
    body = len(data) - offset
    t, x, y, p = decode(np.frombuffer(data, f"<u{width}", body // width, offset))
    return Columns(t, x, y, p, size=_size(head), cut=body % width)


def read_dat(data: bytes, source: object = "DAT data") -> Columns:
    """Events of a .dat file."""
    head, offset = _header(data)
    if head:
        kind, size = data[offset : offset + 2].ljust(2, b"\0")
        if size != 8:
            raise DataError(
                f"{source}: events of {size} bytes and type {kind}, expected 8 bytes (CD events); "
                "the file is damaged or of another kind"
            )
        offset += 2
    body = len(data) - offset
    pairs = np.frombuffer(data, "<u4", body // 8 * 2, offset).reshape(-1, 2)
    word = pairs[:, 1].astype(np.int64)
    t = _unwrapped(pairs[:, 0].astype(np.int64), 32)
    columns = t, word & 0x3FFF, (word >> 14) & 0x3FFF, word >> 28
    return Columns(*columns, size=_size(head), cut=body % 8)


def _header(data: bytes) -> tuple[str, int]:
    """The text lines that begin with `%`, and where the events begin."""
    offset = 0
    while data[offset : offset + 1] == b"%":
        end = data.find(b"\n", offset)
        if end < 0:
            break
        line = data[offset:end]
        if not line.isascii() or (offset and not line.startswith((b"% ", b"%\r"))):
            break  # an event may begin with the byte of "%"
        offset = end + 1
        if line.strip() == b"% end":
            break
    return data[:offset].decode("ascii", "replace"), offset


def _size(head: str) -> tuple[int, int] | None:
    """(height, width) of the sensor, where the header has it."""
    together = re.search(r"% geometry (\d+)x(\d+)", head, re.IGNORECASE)
    if together:
        return int(together[2]), int(together[1])
    height, width = (
        re.search(rf"{side}[ =](\d+)", head, re.IGNORECASE) for side in ("height", "width")
    )
    return (int(height[1]), int(width[1])) if height and width else None


def _ordered(words: Words) -> Words:
    """64-bit words with their halves in order: words of the time have nothing in the lower one."""
    low, high = (words & np.uint64(0xFFFFFFFF), words >> np.uint64(32))
    time = np.uint64(8)
    if ((high >> np.uint64(28) == time) & (low == 0)).sum() >= (
        (low >> np.uint64(28) == time) & (high == 0)
    ).sum():
        return words
    return (low << np.uint64(32)) | high


def evt2(words: Words) -> tuple[Ints, Ints, Ints, Ints]:
    word = words.astype(np.int64)
    kind = word >> 28
    high = _last(kind == 8, _unwrapped_at(kind == 8, word & 0xFFFFFFF, 28))
    event = (kind <= 1) & (high >= 0)
    word, kind, high = word[event], kind[event], high[event]
    return (high << 6) | ((word >> 22) & 63), (word >> 11) & 2047, word & 2047, kind


def evt21(words: Words) -> tuple[Ints, Ints, Ints, Ints]:
    words = _ordered(words)
    kind = (words >> np.uint64(60)).astype(np.int64)
    high = (words >> np.uint64(32)).astype(np.int64)
    time = _last(kind == 8, _unwrapped_at(kind == 8, high & 0xFFFFFFF, 28))
    event = (kind <= 1) & (time >= 0)
    kind, high, time = kind[event], high[event], time[event]
    rows, bits = _fired((words[event] & np.uint64(0xFFFFFFFF)).astype(np.int64), 32)
    t = (time << 6) | ((high >> 22) & 63)
    return t[rows], ((high >> 11) & 2047)[rows] + bits, (high & 2047)[rows], kind[rows]


def evt3(words: Words) -> tuple[Ints, Ints, Ints, Ints]:
    word = words.astype(np.int64)
    kind, value = word >> 12, word & 0xFFF
    place = np.arange(len(word))
    high = _last(kind == 8, _unwrapped_at(kind == 8, value, 12))
    low = _last(kind == 6, value)
    # a new upper part begins with a lower part of 0 until one is told
    changed = (kind == 8) & (np.diff(high, prepend=-1) != 0)
    low[(_last(changed, place) > _last(kind == 6, place)) | (low < 0)] = 0
    y = _last(kind == 0, value & 0x7FF)
    base = _last(kind == 3, value)
    # how far the vectors since the last base have gone
    steps = np.cumsum(np.where(kind == 4, 12, np.where(kind == 5, 8, 0)))
    ended = np.concatenate([[0], steps[:-1]]) if len(steps) else steps
    start = _last(kind == 3, steps)
    known = (high >= 0) & (y >= 0)
    single = np.flatnonzero((kind == 2) & known)
    vector = np.flatnonzero(((kind == 4) | (kind == 5)) & known & (base >= 0))
    rows, bits = _fired(np.where(kind[vector] == 4, value[vector], value[vector] & 0xFF), 12)
    many = vector[rows]
    order = np.argsort(np.concatenate([single, many]), kind="stable")
    at = np.concatenate([single, many])[order]
    x = np.concatenate([value[single] & 0x7FF, (base & 0x7FF)[many] + (ended - start)[many] + bits])
    p = np.concatenate([value[single] >> 11, base[many] >> 11])
    return (high[at] << 12) | low[at], x[order], y[at], p[order]


def _last(mask: npt.NDArray[np.bool_], values: Ints) -> Ints:
    """The value at the last place up to here where `mask` holds; -1 before the first."""
    index = np.maximum.accumulate(np.where(mask, np.arange(len(mask)), -1))
    return np.where(index >= 0, values[index], -1)


def _unwrapped(values: Ints, bits: int) -> Ints:
    """Counts of `bits` bits that go on where they wrap; a little backward is no wrap."""
    back = np.diff(values, prepend=values[:1]) < -(1 << (bits - 1))
    return values + (np.cumsum(back) << bits)


def _unwrapped_at(mask: npt.NDArray[np.bool_], values: Ints, bits: int) -> Ints:
    out = np.zeros(len(values), np.int64)
    out[mask] = _unwrapped(values[mask], bits)
    return out


def _fired(masks: Ints, width: int) -> tuple[Ints, Ints]:
    """Rows and bits that are set."""
    rows, bits = np.nonzero((masks[:, None] >> np.arange(width)) & 1)
    return rows, bits


VERSIONS: dict[str, tuple[Callable[[Words], tuple[Ints, Ints, Ints, Ints]], int]] = {
    **dict.fromkeys(("2.0", "EVT2"), (evt2, 4)),
    **dict.fromkeys(("2.1", "EVT21"), (evt21, 8)),
    **dict.fromkeys(("3.0", "EVT3"), (evt3, 2)),
}
"""Decoder and bytes of a word, by what a header calls the format."""
