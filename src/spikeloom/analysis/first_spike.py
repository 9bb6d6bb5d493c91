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
    silent = spikes.shape[0] + (1 if potentials is None else peak_ranks(potentials))
    kind = torch.promote_types(spikes.dtype, torch.float32)
    return torch.where(fired.any(0), times, silent).to(kind)


def peak_ranks(potentials: Tensor) -> Tensor:
    """Rank 1..N of every neuron of a sample by the peak of its potential, `[B, N]`, int64."""
    order = potentials.amax(0).argsort(dim=-1, descending=True, stable=True)
    return order.argsort(-1) + 1
