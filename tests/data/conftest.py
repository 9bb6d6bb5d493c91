"""One thread, and no data set of the machine's own, for the tests of `spikeloom.data`."""

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def real_root() -> Path:
    """The folder with real data sets; the test is skipped where there is none."""
    root = os.environ.get("SPIKELOOM_DATA")
    if not root:
        pytest.skip("SPIKELOOM_DATA names no folder with real data sets")
    return Path(root)
