"""Any neuron, size, layout and data: compiled equals eager bit for bit, gradients equal float64
autograd."""

import pytest
import torch
from drawn import cases, check_case
from hypothesis import given, settings
from zoo import POOL, STATIC


@pytest.mark.parametrize("name", POOL)
def test_float32(name: str) -> None:
    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(case=cases(POOL[name]))
    def check(case: dict) -> None:
        check_case(POOL[name], torch.float32, case)

    check()


@pytest.mark.parametrize("name", [name for name, entry in POOL.items() if entry.double])
def test_float64(name: str) -> None:
    @settings(max_examples=40, deadline=None, derandomize=True, database=None)
    @given(case=cases(POOL[name]))
    def check(case: dict) -> None:
        # the constant input is covered in float32: it is one kernel more, not another arithmetic
        case = case | {"layout": "contiguous" if case["layout"] in STATIC else case["layout"]}
        check_case(POOL[name], torch.float64, case)

    check()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", POOL)
def test_many_more(name: str, dtype: torch.dtype) -> None:
    """Every neuron in both dtypes, other examples each time."""

    @settings(max_examples=400, deadline=None, database=None)
    @given(case=cases(POOL[name]))
    def check(case: dict) -> None:
        check_case(POOL[name], dtype, case)

    check()
