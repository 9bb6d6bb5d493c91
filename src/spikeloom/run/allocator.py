"""Keeping freed memory in the process, so that a training step does not fault its pages in
again.
"""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Tell glibc to serve large blocks from the heap and to give nothing back while the process
    runs.

    By default every tensor above a few megabytes is mapped anew and unmapped when it is freed; each
    step then pays for the same pages again. Measured on the MNIST network of PLIF (batch 8, T = 8,
    one thread): 0.22 s a step in place of 0.26 s. Memory use stays at the largest step's; it does
    not grow.

    Returns whether it was done: not on other C libraries, nor where a `MALLOC_*` variable says that
    the user has settings of their own.
    """
    own_settings = any(name.startswith("MALLOC_") for name in os.environ)
    if not sys.platform.startswith("linux") or own_settings:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 << 20}
    return all([mallopt(parameter, value) == 1 for parameter, value in settings.items()])
