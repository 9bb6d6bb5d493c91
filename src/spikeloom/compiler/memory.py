"""Memory for results on the CPU, used again.

By default the C library maps every block above a few megabytes anew and unmaps it when it is freed:
each call then pays for the system to clear its pages, two to three times what the kernel costs.
Results of `LARGE` bytes and more therefore lie in blocks of the library's own, which are kept when
the last tensor on them is gone and given to the next result of their size. Nothing of the process
is changed: other libraries allocate as before.

Kept are at most as many bytes as were in use at once, those that were used last.
`SPIKELOOM_KEEP_MEMORY=0` turns it off.
"""

import math
import mmap
import os
import threading
import weakref

import numpy as np
import torch
from torch import Tensor

LARGE = 1 << 20
"""Bytes from which a result lies in a block of its own."""

_STEP = 1 << 18
_lock = threading.RLock()  # a garbage collection may free a block while one is taken
_free: dict[int, list[mmap.mmap]] = {}
"""Blocks by size, the size that was given back last at the end."""
_used = _most = _idle = 0


def _forget() -> None:
    """A forked child may have inherited the lock from a thread that it does not have."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def empty(shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised dense tensor on the CPU."""
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE or not _is_on():
        return torch.empty_strided(shape, strides, dtype=dtype, device="cpu")
    storage = torch.from_numpy(_take(-(-size // _STEP) * _STEP)).untyped_storage()
    return torch.empty(0, dtype=dtype, device="cpu").set_(storage, 0, shape, strides)


def _is_on() -> bool:
    return (
        os.environ.get("SPIKELOOM_KEEP_MEMORY") != "0"
        and not torch.are_deterministic_algorithms_enabled()  # which fill what is new with NaN
    )


def _take(size: int) -> "np.ndarray":
    """A block of `size` bytes; it comes back when nothing refers to it any more."""
    global _used, _most, _idle
    with _lock:
        if blocks := _free.get(size):
            pages = blocks.pop()
            _idle -= size
        else:
            # private: a forked child must not write into its parent's memory
            try:
                pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            except OSError as error:
                raise MemoryError(f"out of memory: tried to allocate {size} bytes") from error
            if hasattr(mmap, "MADV_HUGEPAGE"):
                pages.madvise(mmap.MADV_HUGEPAGE)
        _used += size
        _most = max(_most, _used)
    block = np.frombuffer(pages, np.uint8)
    weakref.finalize(block, _give_back, pages, size).atexit = False
    return block


def _give_back(pages: mmap.mmap, size: int) -> None:
    global _used, _idle
    with _lock:
        _used -= size
        blocks = _free.pop(size, [])
        blocks.append(pages)
        _free[size] = blocks
        _idle += size
        while _used + _idle > _most:  # what has lain there longest makes room
            oldest = next(iter(_free))
            if _free[oldest]:
                _free[oldest].pop()
                _idle -= oldest
            if not _free[oldest]:
                del _free[oldest]
