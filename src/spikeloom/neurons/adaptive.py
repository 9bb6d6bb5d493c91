"""Adaptive leaky integrate-and-fire: a slow variable follows the potential and opposes the
input.
"""

from typing import Unpack

import torch
from torch import Tensor, nn

from spikeloom.neurons.current import raw_decay
from spikeloom.neurons.leaky import Integrator, IntegratorOptions
from spikeloom.neurons.ranges import within
from spikeloom.neurons.surrogate import FastSigmoid


class AdLIF(Integrator):
    """LIF with an adaptation w that makes it oscillate.

        charge  h_t = beta (v_{t-1} - v_reset) + (1 - beta) (x_t - w_{t-1}) + v_reset
        adapt   w_t = rho w_{t-1} + a h_{t-1} + b s_{t-1}            with the potential BEFORE reset
        fire, reset as `Integrator`;  everything is 0 at rest, v = v_reset
        beta = sigmoid(membrane) = exp(-1 / tau_m),  rho = sigmoid(adaptation) = exp(-1 / tau_w)

    A spike acts on the potential two steps later; an input acts in its own step. The state `next_w`
    is w_{t+1}, so that h and s of the step before need not be kept. Gradients flow through `b s`
    also where the reset is detached.

    `tau_m`, `tau_w` (100.0): initial time constants in time steps, above 1.
    `shape`: `()` for one set of constants per layer, `(C,)` for one per channel (axis 2 of input).
    a and b start uniform in [0, 1), from torch's generator, and act as if clamped to [0, 1]: a
    value out of range counts as the nearer bound, but keeps its whole gradient. `clamp_()` brings
    it back.
    `surrogate`: `FastSigmoid(5.0)`. Source: as `neurons/current.py`.
    """

    states = ("v", "w", "next_w")

    def __init__(
        self,
        tau_m: float,
        tau_w: float = 100.0,
        *,
        shape: tuple[int, ...] = (),
        **options: Unpack[IntegratorOptions],
    ) -> None:
        options["surrogate"] = options.get("surrogate") or FastSigmoid(5.0)
        super().__init__(**options)
        self.membrane = nn.Parameter(torch.full(shape, raw_decay(tau_m, "tau_m")))
        self.adaptation = nn.Parameter(torch.full(shape, raw_decay(tau_w, "tau_w")))
        self.a = nn.Parameter(torch.rand(shape))
        self.b = nn.Parameter(torch.rand(shape))

    def coefs(self) -> dict[str, Tensor]:
        return {
            "beta": self.membrane.sigmoid(),
            "rho": self.adaptation.sigmoid(),
            "a": within(self.a, 0, 1),
            "b": within(self.b, 0, 1),
        }

    def step(
        self,
        x: Tensor,
        v: Tensor,
        w: Tensor,
        next_w: Tensor,
        *,
        beta: Tensor,
        rho: Tensor,
        a: Tensor,
        b: Tensor,
    ) -> tuple[Tensor, ...]:
        drive = x - w
        if self.v_reset:
            h = drive + (v - self.v_reset - drive) * beta + self.v_reset
        else:
            h = drive + (v - drive) * beta
        s, v, h = self.fire(h)
        return s, v, next_w, next_w * rho + h * a + s * b, h

    @torch.no_grad()
    def clamp_(self) -> None:
        """Move a and b back into [0, 1]."""
        self.a.clamp_(0, 1)
        self.b.clamp_(0, 1)

    @torch.no_grad()
    def constants(self) -> dict[str, Tensor]:
        """`tau_m` and `tau_w` in time steps, `a`, `b`."""
        coefs = self.coefs()
        return {
            "tau_m": -1 / coefs["beta"].log(),
            "tau_w": -1 / coefs["rho"].log(),
            "a": coefs["a"],
            "b": coefs["b"],
        }
