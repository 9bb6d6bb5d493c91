"""Settings for the compiler's tests: one thread, and fresh memory that is never zero by luck."""

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from spikeloom.compiler.cpu import launch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def memory_full_of_nan(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An element that a kernel forgot to write, or read before it was written, shows as NaN."""

    class Fresh(launch._Memory):
        def grow(self, size: int, real: torch.dtype) -> torch.Tensor:
            return torch.full((size,), math.nan, dtype=real)

    monkeypatch.setattr(launch, "_memory", Fresh())
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture
def start_program() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a file of `programs/` in a process of its own, with the cache folder given or the
    usual one."""
    started: list[subprocess.Popen[str]] = []

    def start(
        name: str, *arguments: str, cache: Path | None = None, **variables: str
    ) -> subprocess.Popen[str]:
        environment = os.environ | variables | {"OMP_NUM_THREADS": "1"}
        if cache is not None:
            environment["SPIKELOOM_CACHE"] = str(cache)
        program = Path(__file__).parent / "programs" / f"{name}.py"
        process = subprocess.Popen(
            [sys.executable, str(program), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
