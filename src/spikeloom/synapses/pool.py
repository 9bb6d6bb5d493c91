"""Max pooling of images over windows that do not overlap, without torch's table of 64-bit places.

    y[n, c, i, j] = max of x over the window (i, j);  gx = g at its first maximum, 0 elsewhere

Values and gradients are torch's to the last bit. torch fills the whole gradient with zeros and then
scatters into it; here each place is written once, from one byte per output. For images with the
channel last in memory.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeloom.compiler.cpu.threads import share
from spikeloom.synapses.active import flat, kernels

PAST_CACHE = 16 << 20
"""Bytes of a gradient that no cache holds until somebody reads it."""


class MaxPool(torch.autograd.Function):
    """`x` `[N, C, H, W]`, the channel last in memory; `window` `(height, width)`, of at most 255
    places."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: tuple[int, int]) -> Tensor:
        samples, channels, height, width = x.shape
        shape = (samples, channels, height // window[0], width // window[1])
        out = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        places = np.empty(out.numel(), np.uint8)
        ctx.shape, ctx.window, ctx.places = x.shape, window, places
        source, target = flat(x.permute(0, 2, 3, 1)), flat(out.permute(0, 2, 3, 1))
        arguments = source, target, places, height, width, channels, *window
        share(kernels("pool").max_pool, samples, x.numel(), *arguments)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,) = grads
        return _Gradient.apply(grad, ctx.places, ctx.shape, ctx.window), None


class _Gradient(torch.autograd.Function):
    """The gradient of `x`, linear in `grad`; its own gradient gathers what it scattered."""

    @staticmethod
    def forward(
        ctx: Any, grad: Tensor, places: Any, shape: torch.Size, window: tuple[int, int]
    ) -> Tensor:
        ctx.places, ctx.shape, ctx.window = places, shape, window
        samples, channels, height, width = shape
        out = torch.empty(shape, dtype=grad.dtype, memory_format=torch.channels_last)
        grad = grad.contiguous(memory_format=torch.channels_last)
        source, target = flat(grad.permute(0, 2, 3, 1)), flat(out.permute(0, 2, 3, 1))
        whole_lines = channels % 16 == 0 and out.data_ptr() % 64 == 0 and out.element_size() == 4
        past_cache = whole_lines and out.nbytes >= PAST_CACHE
        arguments = source, target, places, height, width, channels, *window, past_cache
        share(kernels("pool").max_pool_gradient, samples, out.numel(), *arguments)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (again,) = grads
        a, b = ctx.window
        samples, channels, height, width = ctx.shape
        high, wide = height // a, width // b
        windows = again[..., : high * a, : wide * b].unflatten(3, (wide, b)).unflatten(2, (high, a))
        windows = windows.transpose(3, 4).flatten(4)
        places = torch.from_numpy(ctx.places).long().view(samples, high, wide, channels, 1)
        return windows.gather(4, places.permute(0, 3, 1, 2, 4)).squeeze(4), None, None, None
