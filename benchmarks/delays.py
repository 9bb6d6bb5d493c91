"""A learned delay in training, its kernel against torch's convolution over time."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.timing import clock_name, timings
from spikeloom.nn import Delay
from spikeloom.nn.delay_sum import by_convolution, delayed_sum

COLUMNS = ("[T, B, C]", "longest", "kernel, ms", "convolution, ms", "ratio")


def _both_ways(function: Callable[..., Tensor], past: Tensor, g: Tensor, above: Tensor) -> object:
    return torch.autograd.grad(function(past, g, len(above)), (past, g), above)


def table(rounds: int) -> list[list[str]]:
    """Forward and backward; spikes at 7 %, gradients of input and delays asked for."""
    rows = []
    for shape, longest in (((50, 64, 140), 10), ((50, 64, 128), 10), ((100, 32, 700), 25)):
        torch.manual_seed(0)
        g = Delay(shape[2], longest).weights().detach().requires_grad_()
        past = (torch.rand(longest + shape[0], *shape[1:]) < 0.07).float().requires_grad_()
        above = torch.randn(shape)
        kernel, convolution = timings(
            [
                partial(_both_ways, function, past, g, above)
                for function in (delayed_sum, by_convolution)
            ],
            rounds,
            clock_name(),
        )
        a, b = 1e3 * kernel.best, 1e3 * convolution.best
        rows.append([str(list(shape)), str(longest), f"{a:.2f}", f"{b:.2f}", f"{b / a:.1f}"])
    return rows
