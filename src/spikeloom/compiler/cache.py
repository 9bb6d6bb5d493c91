"""Generated kernels on disk: one readable module each, named by the hash of everything it depends
on.

A module is written once, by rename, so that any number of processes may race for it; numba keeps
its machine code beside it, so a later process compiles nothing. The folder is `kernels` in the
cache folder; one that cannot be written, or that others may write to, is not trusted, and a
temporary folder takes its place for this process.
"""

import hashlib
import importlib.util
import os
import sys
import tempfile
import threading
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType

from spikeloom.cache_home import cache_root, distrust

_lock = threading.Lock()
_loaded: dict[str, ModuleType] = {}


@cache
def folder() -> Path:
    """The folder that kernels are written to in this process."""
    wanted = cache_root() / "kernels"
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        wanted.mkdir(exist_ok=True, mode=0o700)
        problem = _distrust(wanted.parent) or _distrust(wanted)
    except OSError as error:
        problem = str(error)
    if problem is None:
        return wanted
    replacement = Path(tempfile.mkdtemp(prefix="spikeloom-kernels-"))
    warnings.warn(
        f"kernel cache {wanted} is not used ({problem}); kernels of this process go to "
        f"{replacement}. Set SPIKELOOM_CACHE to a folder of your own to keep them.",
        stacklevel=2,
    )
    return replacement


def _distrust(path: Path) -> str | None:
    """Why code found in `path` should not be run, or None."""
    if not os.access(path, os.W_OK | os.X_OK):
        return "it cannot be written"
    return distrust(path)


@cache
def fingerprint() -> str:
    """What besides its text decides what a kernel does: versions, processor, and the helper
    functions.
    """
    import llvmlite
    import llvmlite.binding
    import numba

    here = Path(__file__).parent
    called = ("cpu/jit.py", "cpu/mathlib.py", "gpu/mathlib.py")
    helpers = [(here / name).read_bytes() for name in called]
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
    """The module with this source, written to the cache folder if it is not there, and imported
    once.
    """
    name = f"spikeloom_kernel_{key(text)}"
    with _lock:
        if name not in _loaded:
            path = folder() / f"{name}.py"
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                _write(path, text)
            _loaded[name] = _import(name, path)
        return _loaded[name]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-", suffix=".py")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)


def _import(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import the generated kernel {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # numba pickles functions by module name
    spec.loader.exec_module(module)
    return module
