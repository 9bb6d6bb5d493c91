"""Integrate-and-fire neurons that add up their own spikes, for networks read out by firing rate."""

import math
from typing import Unpack

import torch
from torch import Tensor

from spikeloom.neurons.neuron import Neuron, NeuronOptions


class RateLIF(Neuron):
    """Leaky integrate-and-fire with soft reset and a weighted count of its spikes.

        charge  h_t = leak * v_{t-1} + x_t
        fire    s_t = Theta(h_t - v_threshold)                 a spike where h_t >= v_threshold
        reset   v_t = h_t - v_threshold * s_t
        count   n_t = leak * n_{t-1} + s_t

    `leak` (1.0): the part of the potential that is left after one time step, in (0, 1]; with 1 the
    neuron is integrate-and-fire and `n` the number of its spikes. `v_threshold` (1.0), above 0.
    `rate(n, T)` is the (weighted) mean firing rate after T steps, in [0, 1].

    Both states advance in the one fused kernel, so a rate over any T costs no memory over time.
    Source: Xiao et al., NeurIPS 2021, sections 3 and 4.
    """

    states = ("v", "n")
    observed = ("h",)

    def __init__(
        self,
        leak: float = 1.0,
        *,
        v_threshold: float = 1.0,
        **options: Unpack[NeuronOptions],
    ) -> None:
        super().__init__(**options)
        if not 0 < leak <= 1:
            raise ValueError(f"leak={leak}: expected above 0 and at most 1 (1: no leak)")
        if not (math.isfinite(v_threshold) and v_threshold > 0):
            raise ValueError(f"v_threshold={v_threshold}: expected a threshold above 0")
        self.leak = float(leak)
        self.v_threshold = float(v_threshold)

    def step(self, x: Tensor, v: Tensor, n: Tensor) -> tuple[Tensor, ...]:
        leaky = self.leak < 1
        h = v * self.leak + x if leaky else v + x
        s = self.surrogate(h - self.v_threshold)
        return s, h - s * self.v_threshold, (n * self.leak if leaky else n) + s, h

    def rate(self, n: Tensor, time_steps: int) -> Tensor:
        """`n` after `time_steps` steps over the sum of the weights leak^0 ... leak^(T-1)."""
        return n / weight_sum(self.leak, time_steps)

    def constants(self) -> dict[str, Tensor]:
        return {} if self.leak == 1 else {"tau": torch.tensor(1 / (1 - self.leak))}


def weight_sum(leak: float, time_steps: int) -> float:
    """leak^0 + ... + leak^(T-1): what T weighted time steps add up to."""
    return float(time_steps) if leak == 1 else (1 - leak**time_steps) / (1 - leak)
