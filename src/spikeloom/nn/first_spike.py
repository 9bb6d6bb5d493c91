"""When output neurons fire first: spike trains as times, in time steps from 1."""

import torch
from torch import Tensor


@torch.no_grad()
def first_spike_times(spikes: Tensor, potentials: Tensor | None = None) -> Tensor:
    """The time of the first spike of every neuron, `[B, N]`, for `spikes` `[T, B, N]`.

        f_n = 1..T           neuron n fires first in step f_n
        f_n = T + r_n        neuron n is silent: r_n = 1..N is its rank among the N neurons of its
                             sample, those with the higher peak of `potentials` `[T, B, N]` first

    Ranks are dealt to all N neurons, also to those that fire; equal peaks go to the lower index.
    Without `potentials` every silent neuron has T + 1. Anything but 0 is a spike. float64 where the
    spikes are, else float32.
    """
    fired = spikes != 0
    times = fired.int().argmax(0) + 1
    silent = len(spikes) + (1 if potentials is None else peak_ranks(potentials))
    kind = torch.promote_types(spikes.dtype, torch.float32)
    return torch.where(fired.any(0), times, silent).to(kind)


@torch.no_grad()
def spike_times(spikes: Tensor, potentials: Tensor) -> Tensor:
    """The full code `[T, B, N]` whose minimum over time is `first_spike_times`.

    A spike in step t is t. A step without one is T + r_n + 0.01 q_{n,t}, where q = 0..T-1 ranks the
    potentials of neuron n over time, the highest first.
    """
    ranks = potentials.argsort(dim=0, descending=True, stable=True).argsort(0)
    kind = torch.promote_types(spikes.dtype, torch.float32)
    silent = len(spikes) + peak_ranks(potentials) + 0.01 * ranks.to(kind)
    steps = torch.arange(1, len(spikes) + 1, device=spikes.device, dtype=kind)
    return torch.where(spikes != 0, steps.view(-1, 1, 1), silent)


def peak_ranks(potentials: Tensor) -> Tensor:
    """Rank 1..N of every neuron of a sample by the peak of its potential, `[B, N]`, int64."""
    order = potentials.amax(0).argsort(dim=-1, descending=True, stable=True)
    return order.argsort(-1) + 1


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
