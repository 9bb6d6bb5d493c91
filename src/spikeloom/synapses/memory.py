"""Memory for tables whose rows are read from all over.

Ordinary pages of 4 KiB lie anywhere in physical memory: some share places of the second-level
cache, and there are more of them than the processor keeps addresses of. A table of 590 KiB in one
page of 2 MiB is read 1.4 times as fast (Linux; numpy asks for large pages where it allocates 4 MiB
or more). Elsewhere this is ordinary memory.
"""

import threading
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

PAGE = 2 << 20
ASKED_FROM = 4 << 20
"""Bytes from which numpy asks for large pages."""

KEPT_BELOW = 32 << 20
"""Bytes of a workspace that is kept."""

_local = threading.local()


def large(count: int, kind: Any) -> Array:
    """An array of `count` elements of the numpy type `kind`, not set, that begins with a page."""
    size = count * np.dtype(kind).itemsize
    memory = np.empty(max(size + PAGE, ASKED_FROM), np.uint8)
    begin = -memory.ctypes.data % PAGE
    return memory[begin : begin + size].view(kind)


def workspace(name: str, count: int, kind: Any) -> Array:
    """The same, kept by this thread for the next call with this name (unless it is huge)."""
    if count * np.dtype(kind).itemsize > KEPT_BELOW:
        return large(count, kind)
    kept: dict[tuple[str, Any], Array] = _local.__dict__.setdefault("kept", {})
    key = name, np.dtype(kind)
    if key not in kept or kept[key].size < count:
        kept[key] = large(count, kind)
    return kept[key][:count]
