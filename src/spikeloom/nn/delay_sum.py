"""Sums over delays, y_t = sum over tau of g_tau x_{t - tau}: by kernels on the CPU."""

from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeloom.compiler import cache as kernel_cache
from spikeloom.compiler.cpu.threads import share
from spikeloom.compiler.function import is_watched


def delayed_sum(past: Tensor, g: Tensor, steps: int) -> Tensor:
    """The last `steps` of it, `[T, B, C, ...]`, for `past` `[D + T, B, C, ...]` and `g`
    `[C, D + 1]`."""
    if (
        not torch.compiler.is_compiling()
        and past.device.type == "cpu"
        and past.dtype in (torch.float32, torch.float64)
        and past.numel()
        and not is_watched(past)
    ):
        return _Sum.apply(past, g.to(past.dtype), steps)  # type: ignore[no-any-return]
    return by_convolution(past, g, steps)


def by_convolution(past: Tensor, g: Tensor, steps: int) -> Tensor:
    """The same by torch's operators, which can be compiled, exported, and differentiated again."""
    rows = past.movedim(0, -1).movedim(1, -2)  # [B, ..., C, D + T]
    taps = g.to(past.dtype).flip(-1).unsqueeze(1)
    y = F.conv1d(rows.reshape(-1, *rows.shape[-2:]), taps, groups=len(g))
    return y.reshape(*rows.shape[:-1], steps).movedim(-2, 1).movedim(-1, 0)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, past: Tensor, g: Tensor, steps: int) -> Tensor:
        ctx.save_for_backward(past, g)
        ctx.steps = steps
        out = past.new_zeros(steps, *past.shape[1:])
        _run("delayed", past, _wide(g, past), out, steps, past, g)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        past, g = ctx.saved_tensors
        needs, grad, steps = ctx.needs_input_grad[:2], grads[0], ctx.steps
        if torch.is_grad_enabled():  # by somebody who differentiates again
            inputs = [t for t, needed in zip((past, g), needs, strict=True) if needed]
            y = by_convolution(past, g, steps)
            gradients = iter(torch.autograd.grad(y, inputs, grad, create_graph=True))
            return *(next(gradients) if needed else None for needed in needs), None
        by_past = by_g = None
        if needs[0]:
            by_past = past.new_zeros(past.shape)
            _run("delayed_input", grad, _wide(g, past), by_past, steps, past, g)
        if needs[1]:
            each = past.new_zeros(past.shape[1], g.shape[1], *past.shape[2:])
            _run("delayed_taps", past, grad, each, steps, past, g)
            by_g = each.sum(0).view(g.shape[1], len(g), -1).sum(2).t()
        return by_past, by_g, None


def _wide(g: Tensor, past: Tensor) -> Tensor:
    """g at every place of a sample, `[D + 1, C, ...]`."""
    taps = g.t()
    return taps.view(*taps.shape, *[1] * (past.dim() - 3)).expand(-1, *past.shape[2:])


def _run(name: str, a: Tensor, b: Tensor, out: Tensor, steps: int, past: Tensor, g: Tensor) -> None:
    """A kernel on its two inputs and its output."""
    batch = past.shape[1]
    sizes = (steps, batch, past[0, 0].numel(), g.shape[1] - 1)
    arrays = [t.detach().contiguous().view(-1).numpy() for t in (a, b, out)]
    share(getattr(_kernels(), name), batch, past.numel() * g.shape[1], *arrays, *sizes)


@cache
def _kernels() -> ModuleType:
    path = Path(__file__).with_name("delay_kernels.py")
    return kernel_cache.load(path.read_text(encoding="utf-8"))
