"""Kernels are as wide as the processor: guards numba upgrades and the private `noalias` flag."""

import json
import platform
from pathlib import Path
from typing import Any

import llvmlite.binding
import pytest
from processes import printed

FEATURES = llvmlite.binding.get_host_cpu_features()


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


def test_every_loop_is_vectorised(start_program: Any, cache_folder: Path) -> None:
    if not FEATURES.get("avx2"):
        pytest.skip(f"no AVX2 on this {platform.machine()} processor: no width is promised")
    loops = json.loads(printed(start_program("kernel_llvm", cache=cache_folder)))
    names = {(loop["nest"], loop["loop"]) for loop in loops}
    assert names == {
        (nest, f"{what}_segment")
        for nest in ("row", "vec")
        for what in ("forward", "recompute", "adjoint")
    }
    for loop in loops:
        assert loop["width"] >= 8, loop
        assert loop["noalias"], loop
        # sums over a segment are float32; only the partial sums in the driver are float64
        assert loop["double"] == 0, loop
