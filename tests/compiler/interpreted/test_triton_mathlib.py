"""The functions that kernels call, against PyTorch in float64."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikeloom.neurons import Neuron

# the interpreter computes with NumPy, which warns where the hardware answers inf or NaN
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

VALUES = [
    *(0.0, -0.0, 1e-7, -1e-7, 1e-3, 0.25, -0.4, 0.7, 1.0, -1.0, 1.5, -2.6, 4.0, 9.0, -17.0, 25.0),
    *(60.0, -60.0, math.inf, -math.inf, math.nan),
]
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sign": torch.sign,
    "maximum": lambda x: torch.maximum(x, 0.5 * x + 0.25),
    "minimum": lambda x: torch.minimum(x, 0.5 * x + 0.25),
    "remainder": lambda x: torch.remainder(x, 0.75),
    "remainder, negative": lambda x: torch.remainder(x, -0.75),
    "log1p": lambda x: torch.log1p(x.abs()),
    "tanh": torch.tanh,
    "atan": torch.atan,
    "sigmoid": torch.sigmoid,
    "exp": torch.exp,
    "erf": torch.erf,
    "cube root": lambda x: x.abs() ** (1 / 3),
    "fourth power": lambda x: x**4,
    "minus fifth power": lambda x: (x + 70.5) ** -5,
    "1.5": lambda x: x**1.5,
    "root": lambda x: x.abs().sqrt(),
    "inverse root": lambda x: (x.abs() + 0.5).rsqrt(),
    "logic": lambda x: torch.where((x > 0) & ~(x > 4) | (x < -2), x, -x),
    "exclusive or": lambda x: ((x > 0) ^ (x > 4)).to(x.dtype),
    "nan": lambda x: torch.where(torch.isnan(x), 7.0, x),
}


class Applied(Neuron):
    """Emits a function of its input."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__(backend="gpu")
        self.function = function

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return self.function(x), v


@pytest.mark.filterwarnings("ignore:no gradient passes the spikes")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_equals_pytorch(name: str, dtype: torch.dtype) -> None:
    x = torch.tensor(VALUES, dtype=dtype).reshape(1, 1, -1)
    got = Applied(FUNCTIONS[name])(x)
    want = FUNCTIONS[name](x.double())
    eps = torch.finfo(dtype).eps
    rtol = 200 * eps if name in ("fourth power", "minus fifth power", "1.5", "exp") else 8 * eps
    torch.testing.assert_close(got.double(), want, rtol=rtol, atol=1e-300, equal_nan=True)
