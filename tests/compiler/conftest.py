"""Settings for the compiler's tests: one thread, and fresh memory that is never zero by luck."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from spikeloom.compiler import launch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def memory_full_of_nan(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An element that a kernel forgot to write, or read before it was written, shows as NaN."""

    def scratch(size: int, real: type[np.floating]) -> Any:
        return np.full(size, np.nan, real)

    monkeypatch.setattr(launch, "_scratch", scratch)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(before)
