"""First-spike coding: output spikes become times, and the error on a time becomes one on spikes.

    forward    f_n = step of the first spike of neuron n, T + rank by peak potential if it is silent
    backward   e_{n,tau} = dL/df_n   at the first spike of n, or at all steps if n is silent
               dL/ds_{n,t} = -A sum over tau of e_{n,tau} exp(-(t - tau)^2 / (2 sigma^2))
               sigma = floor(T / D);  |t - tau| <= min(3 sigma, floor(T / 2)),  zero beyond

A spike that should come earlier (dL/df > 0) is pushed up, at its step and around it, whether there
is a spike or not. No gradient reaches the potentials but through the spikes' surrogate. T counts
the empty steps too. Source: `fs.md`, section 4, of the published code; see README.md.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikeloom.analysis.decisions import first_spike_times


def encode(spikes: Tensor, potentials: Tensor, *, divisor: float, amplitude: float) -> Tensor:
    """Times of first spikes `[B, N]`, in steps from 1, differentiable in the spikes as above.

    `spikes`, `potentials`: `[T, B, N]`, the potentials before reset. `divisor` D and `amplitude` A
    set the width and the height of the window.
    """
    return _Encode.apply(spikes, potentials, divisor, amplitude)


def deviation(time_steps: int, divisor: float) -> int:
    """sigma in time steps; 0 leaves the error where it is."""
    return int(time_steps // divisor)


def window(time_steps: int, divisor: float) -> Tensor:
    """The Gaussian `[2 R + 1]`, float64: peak 1, not normalised, cut at R."""
    sigma = deviation(time_steps, divisor)
    reach = min(3 * sigma, time_steps // 2)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    return torch.exp(-(offsets**2) / (2 * max(sigma, 1) ** 2))


def place(grad: Tensor, times: Tensor, time_steps: int) -> Tensor:
    """The errors e `[T, B, N]` for `grad` `[B, N]`, the gradient on `times` `[B, N]`."""
    steps = torch.arange(1, time_steps + 1, device=times.device, dtype=times.dtype).view(-1, 1, 1)
    return grad * ((times == steps) | (times > time_steps))


def spread(errors: Tensor, divisor: float) -> Tensor:
    """`errors` `[T, B, N]` convolved with the window over time, for every neuron by itself."""
    T = len(errors)
    taps = window(T, divisor).to(errors)
    reach = len(taps) // 2
    steps = torch.arange(T, device=errors.device)
    offsets = steps[:, None] - steps
    # One product with a band matrix [T, T]: T is a few hundred at most, the columns are thousands.
    near = offsets.abs() <= reach
    band = torch.where(near, taps[(offsets + reach).clamp(0, 2 * reach)], 0)
    return (band @ errors.flatten(1)).view(errors.shape)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, spikes: Tensor, potentials: Tensor, divisor: float, amplitude: float
    ) -> Tensor:
        times = first_spike_times(spikes, potentials)
        ctx.save_for_backward(times)
        ctx.time_steps, ctx.dtype = spikes.shape[0], spikes.dtype
        ctx.divisor, ctx.amplitude = divisor, amplitude
        return times

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (times,) = ctx.saved_tensors
        errors = place(grads[0], times, ctx.time_steps)
        return (
            spread(errors, ctx.divisor).mul_(-ctx.amplitude).to(ctx.dtype),
            None,
            None,
            None,
        )


def first_spike_votes(times: Tensor, time_steps: int) -> Tensor:
    """Votes `[T, B, N]` that, added up over the first t steps, elect the first to fire so far.

    A first spike in step t weighs T + 1 - t. Silent neurons vote in the last step, by their ranks,
    with less than 1: all votes together elect the smallest of `times` `[B, N]`.
    """
    classes = times.shape[-1]
    silent = times > time_steps
    ranked = (time_steps + 1 + classes - times) / (classes + 1)
    weights = torch.where(silent, ranked, time_steps + 1 - times)
    steps = torch.arange(1, time_steps + 1, device=times.device, dtype=times.dtype).view(-1, 1, 1)
    return weights * (times.clamp(max=time_steps) == steps)
