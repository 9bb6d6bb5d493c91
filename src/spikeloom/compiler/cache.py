"""Generated kernels: run from their text, and their machine code kept on disk between processes.

The text of a kernel is never read back from a disk, so only the machine code needs trust. It lies
in `kernels/__pycache__` in the cache folder, one file a kernel and signature:

    <SHA-256 of name and content, 32 bytes> <content>

written beside its place and renamed, so that any number of processes may race for it. A file is
used if its sum is right and if nobody but this user or root could have written it; both are
looked at each time. A file that is damaged is set aside and made again; where the folder cannot be
used or written, kernels are compiled anew in each process, which is slower and otherwise the same.
"""

import hashlib
import linecache
import os
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Hashable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from spikeloom import files
from spikeloom.cache_home import cache_root, distrust, make_own, trusted_users

_lock = threading.Lock()
_loaded: dict[str, ModuleType] = {}


@cache
def fingerprint() -> str:
    """What besides its text decides what a kernel does: versions, processor, and the helper
    functions.
    """
    import llvmlite
    import llvmlite.binding
    import numba

    folder = Path(__file__).parent
    called = (
        *("cpu/jit.py", "cpu/llvm.py", "cpu/mathlib.py", "cpu/products.py", "cpu/rows.py"),
        "gpu/mathlib.py",
    )
    helpers = [(folder / name).read_bytes() for name in called]
    return repr(
        (
            sys.version_info[:3],
            numba.__version__,
            llvmlite.__version__,
            llvmlite.binding.get_host_cpu_name(),
            hashlib.sha256(b"".join(helpers)).hexdigest(),
        )
    )


def key(text: str) -> str:
    """The name under which `text` is kept."""
    return hashlib.sha256((fingerprint() + text).encode()).hexdigest()[:24]


def load(text: str) -> ModuleType:
    """The module with this source, run once in a process."""
    name = f"spikeloom_kernel_{key(text)}"
    with _lock:
        if name not in _loaded:
            module = ModuleType(name)
            module.__file__ = f"<{name}>"
            # tracebacks and Triton look up the lines there, and no file stands behind them
            linecache.cache[module.__file__] = (
                *(len(text), None),
                *(text.splitlines(keepends=True), module.__file__),
            )
            sys.modules[name] = module  # numba pickles functions by module name
            exec(compile(text, module.__file__, "exec"), vars(module))
            _loaded[name] = module
        return _loaded[name]


@cache
def function(write: Callable[..., str], name: str, *variant: Hashable) -> Any:
    """The function of this name in the module that `write` writes for a trace and a variant; looked
    up once for each."""
    return getattr(load(write(*variant)), name)


def folder() -> Path:
    """Where machine code is kept."""
    return cache_root() / "kernels" / "__pycache__"


def obstacle() -> str | None:
    """Why the folder is not used, or None; it is made if it is not there."""
    place = folder()
    try:
        make_own(place.parent)
        make_own(place)
        for each in (place.parent.parent, place.parent, place):
            if problem := distrust(each):
                return problem
    except OSError as error:
        return str(error)
    return None


def read(name: str) -> bytes | None:
    """What was kept under `name`, or None."""
    if obstacle() is not None:
        return None  # told by `write`, when the kernel was compiled
    path = folder() / name
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            info = os.fstat(descriptor)
            shared = info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            trusted = stat.S_ISREG(info.st_mode) and info.st_uid in trusted_users() and not shared
            digest, content = (file.read(32), file.read()) if trusted else (b"", b"")
    except FileNotFoundError:
        return None
    except OSError:
        digest, content = b"", b""
    if digest == _digest(name, content):
        return content
    set_aside(name)
    return None


def set_aside(name: str) -> None:
    """Takes a file that cannot be used out of the way."""
    path = folder() / name
    try:
        os.replace(path, path.with_suffix(".damaged"))
    except OSError:
        return  # `write` will tell
    warnings.warn(
        f"kernel cache: {path} is damaged or not this user's own; set aside as *.damaged and made "
        "again",
        stacklevel=2,
    )


def write(name: str, content: bytes) -> None:
    """Keeps `content` under `name`; where that is impossible, the reason is told once."""
    problem = obstacle()
    if problem is None:
        try:
            with files.replacing(folder() / name) as temporary:
                temporary.chmod(0o600)
                temporary.write_bytes(_digest(name, content) + content)
        except OSError as error:
            problem = error.strerror or str(error)
    if problem is not None:
        _tell_uncached(problem)


@cache
def _tell_uncached(problem: str) -> None:
    warnings.warn(
        f"kernel cache {folder().parent} is not used ({problem}); kernels are compiled anew in "
        "this process. Set SPIKELOOM_CACHE to a folder of your own to keep them.",
        stacklevel=2,
    )


def _digest(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + content).digest()
