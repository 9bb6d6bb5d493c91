"""Device, arithmetic, and signals: the surroundings of a run, restored when it ends."""

import ctypes
import os
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from spikeloom import machine
from spikeloom.config.schema import TrainingConfig
from spikeloom.errors import ConfigError
from spikeloom.processes import distributed

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of glibc's mallopt


def choose_device(name: str) -> torch.device:
    """The device that `training.device` names; "auto" is the user's choice for this machine
    (`spikeloom.machine`), else CUDA where there is a CUDA device.

    Of several processes on a machine each has the GPU of its number there (LOCAL_RANK).

    Raises:
        ConfigError: it names a CUDA device that PyTorch does not see, or one for all processes.
    """
    several = distributed.world_size() > 1
    if several and ":" in name:
        raise ConfigError(
            f"training.device = {name!r}: each of {distributed.world_size()} processes takes the "
            'GPU of its number; use "cuda", "auto" or "cpu"'
        )
    if name == "auto":
        name = machine.device()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if several and device.type == "cuda":
        device = torch.device("cuda", distributed.local_rank())
        if device.index >= torch.cuda.device_count():
            raise ConfigError(
                f"process {device.index} of this machine has no GPU of its own, PyTorch sees "
                f"{torch.cuda.device_count()}: launch as many processes, or set "
                "training.device = cpu"
            )
        torch.cuda.set_device(device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"training.device = {name!r}, and PyTorch sees {torch.cuda.device_count()} CUDA "
            'devices: use "auto" or "cpu"'
        )
    return device


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which the network and its loss run under `training.precision`."""
    dtype = getattr(torch, precision)
    # Autocast to float32 means none: it is not a type that autocast takes.
    enabled = dtype != torch.float32
    return torch.autocast(device.type, dtype if enabled else torch.bfloat16, enabled=enabled)


def peak_memory_mb() -> float:
    """Megabytes that this process has held at most: of the GPU where one was used, else of main
    memory.
    """
    if torch.cuda.is_available() and (most := torch.cuda.max_memory_allocated()):
        return round(most / 1e6, 1)
    unit = 1 if sys.platform == "darwin" else 1024  # what ru_maxrss counts in
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


@contextmanager
def surroundings(config: TrainingConfig, device: torch.device) -> Iterator[None]:
    """Thread count and deterministic kernels as the run needs them; generators left as found.

    They are those of the whole process: a run of another thread waits until this one is over.
    """
    if not _surrounded.acquire(blocking=False):
        warnings.warn(
            "another thread of this process trains or evaluates, with the process's random "
            "generators: waiting for it; start processes to do both at once",
            stacklevel=3,
        )
        _surrounded.acquire()
    threads, deterministic = torch.get_num_threads(), torch.backends.cudnn.deterministic
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    on_cuda = device.type == "cuda"
    try:
        keep_freed_memory()
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        if on_cuda:
            # cuBLAS reads this when it starts; without it equal runs may differ.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.backends.cudnn.deterministic = True
            torch.use_deterministic_algorithms(True, warn_only=True)
        with torch.random.fork_rng(devices=[device] if on_cuda else []):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.deterministic = deterministic
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
        _surrounded.release()


_surrounded = threading.RLock()


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


class StopRequest:
    """Ctrl-C and SIGTERM ask a run to stop at the next safe place; a second one stops it at once.

    Inside the `with` block `signal()` then names it; `leave()` ends the program. In another thread
    than the main one signals are not touched.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._signal = 0
        self._before: dict[int, object] = {}

    def signal(self) -> int:
        """The signal that asks for it; 0 if none has."""
        return self._signal

    def leave(self, number: int) -> None:
        """Raises KeyboardInterrupt after Ctrl-C, SystemExit(0) after SIGTERM: a scheduler that asks
        for the machine gets it back from a run that is saved and whole.

        `number`: the signal, which another process of the run may have got.
        """
        if number == signal.SIGTERM:
            raise SystemExit(0)
        raise KeyboardInterrupt

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self._SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal:  # nothing was saved yet, and nobody should take it for that
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        self._signal = number
