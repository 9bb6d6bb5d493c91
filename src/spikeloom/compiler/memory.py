"""Memory for results on the CPU."""

import torch
from torch import Tensor


def empty(shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor on the CPU."""
    return torch.empty_strided(shape, strides, dtype=dtype, device="cpu")
