"""Freed memory stays in the process."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from spikeloom.training.allocator import keep_freed_memory
kept = keep_freed_memory()
def faults():
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin
faults()
print(int(kept), faults())
"""


def run(**environment: str) -> tuple[bool, int]:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    kept, faults = result.stdout.split()
    return bool(int(kept)), int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_large_tensors_reuse_their_pages() -> None:
    kept, faults = run()
    if not kept:
        pytest.skip("this C library has no mallopt")
    assert faults < 1000, "40 MB are 10,000 pages: they should have been there already"


def test_settings_of_the_user_are_left_alone() -> None:
    kept, _ = run(MALLOC_ARENA_MAX="4")
    assert not kept
