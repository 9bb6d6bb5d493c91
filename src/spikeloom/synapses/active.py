"""Which inputs of a layer are active: lists of the nonzeros of a tensor.

Counting comes first and is cheap (a pass over the input); it says whether listing is worth while.
"""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from spikeloom.compiler import cache as kernel_cache
from spikeloom.compiler.cpu.threads import share
from spikeloom.synapses.memory import Array

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
"""What the kernels read; bfloat16 is summed in float32."""


@cache
def kernels(kind: Literal["list", "conv", "linear", "pool", "winograd"]) -> ModuleType:
    """The kernels, loaded through the kernel cache (their text and that of what they call decide
    the name of the entry)."""
    here = Path(__file__).parent
    called = sha256(b"".join((here / name).read_bytes() for name in ("nonzero.py", "vectors.py")))
    text = (here / f"{kind}_kernels.py").read_text(encoding="utf-8")
    return kernel_cache.load(f"{text}\n# with {called.hexdigest()}\n")


def flat(tensor: Tensor) -> Array:
    """The elements in memory order; bfloat16 as 16-bit words."""
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    return tensor.detach().numpy().reshape(-1)


def real(dtype: torch.dtype) -> Any:
    """The numpy type in which sums over tensors of `dtype` are held."""
    return np.float64 if dtype == torch.float64 else np.float32


def sums(dtype: torch.dtype) -> torch.dtype:
    """The same as torch says it."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def lanes(dtype: torch.dtype) -> int:
    """How many sums fit a vector."""
    return 8 if dtype == torch.float64 else 16


def padded(count: int, dtype: torch.dtype) -> int:
    """`count` rounded up to whole vectors."""
    return -(-count // lanes(dtype)) * lanes(dtype)


@dataclass(frozen=True)
class Active:
    """The active inputs of `samples` images or rows, as `list_kernels` describes them."""

    start: Array
    ends: Array
    index: Array
    values: Array
    weighted: bool
    scale: float
    """The one value that all active inputs have, if not `weighted`."""

    @property
    def count(self) -> int:
        return int(self.start[-1])


def all_ones(start: Array, ends: Array, index: Array, dtype: torch.dtype) -> Active:
    """Active inputs that are spikes, for sums over tensors of `dtype`."""
    return Active(start, ends, index, np.empty(0, real(dtype)), False, 1.0)


def is_channel_last(x: Tensor) -> bool:
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def count(x: Tensor) -> Array:
    """The nonzeros of each sample of `x` `[N, ...]`, dense in memory with the sample first."""
    samples = x.shape[0]
    counts = np.empty(samples, np.int64)
    size = x.numel() // max(samples, 1)
    array = flat(_in_memory_order(x))
    share(kernels("list").count_rows, samples, x.numel(), array, size, counts)
    return counts


def count_all(x: Tensor) -> int | None:
    """The nonzeros of `x`, in whatever order its axes lie in memory; None where that has gaps."""
    x = x.permute(sorted(range(x.dim()), key=x.stride, reverse=True))
    return int(count(x).sum()) if x.is_contiguous() else None


def list_rows(x: Tensor, counts: Array) -> Active:
    """The lists of `x` `[R, I]`, contiguous."""
    start, index, values, same = _space(counts, real(x.dtype))
    array = flat(x)
    arguments = array, x.shape[1], start, index, values, same
    share(kernels("list").list_rows, len(counts), x.numel(), *arguments)
    return _finish(start, np.empty(0, np.int32), index, values, same)


def list_images(x: Tensor, counts: Array, groups: int) -> Active:
    """The lists of `x` `[N, C, H, W]`, contiguous or with the channel last in memory."""
    samples, channels, height, width = x.shape
    pixels = height * width
    start, index, values, same = _space(counts, real(x.dtype))
    ends = np.empty(samples * groups * (pixels + 1), np.int32)
    array = flat(_in_memory_order(x))
    shape = (height, width, groups, channels // groups)
    last_channel = not x.is_contiguous()

    def work(first: int, last: int) -> None:
        if last_channel:
            kernels("list").list_channels_last(
                first, last, array, *shape, start, ends, index, values, same
            )
        else:
            scratch, fill = np.empty(pixels, np.int32), np.empty(pixels, np.int64)
            kernels("list").list_channels_first(
                first, last, array, *shape, start, ends, index, values, same, scratch, fill
            )

    share(work, samples, x.numel())
    return _finish(start, ends, index, values, same)


def _in_memory_order(x: Tensor) -> Tensor:
    return x if x.is_contiguous() else x.permute(0, *range(2, x.dim()), 1)


def _space(counts: Array, kind: Any) -> tuple[Array, ...]:
    start = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=start[1:])
    total = int(start[-1])
    return start, np.empty(total, np.int32), np.empty(total, kind), np.ones(len(counts), np.bool_)


def _finish(start: Array, ends: Array, index: Array, values: Array, same: Array) -> Active:
    """Where all values are the same, it is taken out of the sums."""
    scale, uniform = 1.0, bool(same.all())
    if uniform and len(index):
        firsts = values[start[:-1][np.diff(start) > 0]]
        scale = float(firsts[0])
        uniform = bool((firsts == scale).all())
    if uniform:
        return Active(start, ends, index, values[:0], False, scale)
    return Active(start, ends, index, values, True, 1.0)
