"""Running a kernel on several threads.

Kernels release Python's lock, so plain threads run them side by side. A pool of our own, and not
numba's `parallel=True`: numba's OpenMP layer kills a forked child that uses it, its other layer
kills the process when two threads enter at once, and both compile every kernel twice. Handing over
a share costs about 20 us, so small work stays on the calling thread.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

SERIAL_BELOW = 200_000
"""Elements (over all time steps) below which a second thread costs more than it gains."""

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def _forget_pool() -> None:
    """A forked child inherits the pool's object but not its threads."""
    global _pool, _pool_size, _lock
    _pool, _pool_size, _lock = None, 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _workers(count: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < count:
            # an older, smaller pool finishes what it was given and ends with its last reference
            _pool, _pool_size = ThreadPoolExecutor(count, "spikeloom"), count
        return _pool


def share(work: Callable[..., object], parts: int, elements: int, *arguments: object) -> None:
    """Call `work(first, last, *arguments)` on contiguous shares of `range(parts)`, as many as
    PyTorch has threads.
    """
    count = min(torch.get_num_threads(), parts) if elements >= SERIAL_BELOW else 1
    if count <= 1:
        work(0, parts, *arguments)
        return
    bounds = [parts * i // count for i in range(count + 1)]
    pool = _workers(count - 1)
    others: list[Future[object]] = [
        pool.submit(work, bounds[i], bounds[i + 1], *arguments) for i in range(1, count)
    ]
    try:
        work(bounds[0], bounds[1], *arguments)
    finally:
        for other in others:
            other.result()
