"""Current-based leaky integrate-and-fire: input drives a current, which drives the membrane.

    charge   v <- beta (v - v_reset - i) + i + v_reset         with the current of the step before
    current  i <- alpha i + x
    beta = exp(-1 / tau_m), alpha = exp(-1 / tau_s), tau in time steps

A step charges, fires, and resets (`delay=1`: an input at step t can cause a spike at t + 1), or
fires and resets first and then charges (`delay=2`: what fires is the potential that the step before
left).

Source: Liu, Leung, Dragotti, "First-spike coding promotes accurate and efficient spiking neural
networks for discrete events with rich temporal structures", Frontiers in Neuroscience 17, 2023.
`delay=1` is their code on spikingjelly, `delay=2` (with a strict threshold) their code on autograd.
"""

import math
from typing import Literal, Unpack

import torch
from torch import Tensor, nn

from spikeloom.neurons.leaky import Integrator, IntegratorOptions
from spikeloom.neurons.ranges import within
from spikeloom.neurons.surrogate import FastSigmoid

Form = Literal["sigmoid", "direct"]

LOWEST_DECAY, HIGHEST_DECAY = 2 / math.e, 0.995
"""Where decays that are learned directly are kept: tau from 3.26 to 199.5 time steps."""


class CurrentOptions(IntegratorOptions, total=False):
    """What every current-based neuron takes: see `CurrentNeuron`."""

    delay: Literal[1, 2]


class CurrentNeuron(Integrator):
    """What the current-based neurons share: two states, charge, and the order of a step.

        delay=1   h_t = charge(v_{t-1}, i_{t-1});   v_t = reset(h_t, s_t)
        delay=2   h_t = v_{t-1};                    v_t = charge(reset(h_t, s_t), i_{t-1})
        both      s_t = Theta(h_t - v_threshold);   i_t = alpha i_{t-1} + x_t

    reset as `Integrator`; i = 0 and v = v_reset at rest.
    """

    states = ("v", "i")

    def __init__(self, *, delay: Literal[1, 2] = 1, **options: Unpack[IntegratorOptions]) -> None:
        if delay not in (1, 2):
            raise ValueError(f"delay={delay!r}: expected 1 (charge, then fire) or 2 (fire first)")
        options["surrogate"] = options.get("surrogate") or FastSigmoid(5.0, strict=delay == 2)
        super().__init__(**options)
        self.delay = delay

    def advance(
        self, x: Tensor, v: Tensor, i: Tensor, beta: Tensor | float, alpha: Tensor | float
    ) -> tuple[Tensor, ...]:
        """One step with these decays: `(s, v, i, h)`."""
        if self.delay == 1:
            s, v, h = self.fire(self._charge(v, i, beta))
        else:
            s, v, h = self.fire(v)
            v = self._charge(v, i, beta)
        return s, v, i * alpha + x, h

    def _charge(self, v: Tensor, i: Tensor, beta: Tensor | float) -> Tensor:
        if not self.v_reset:
            return i + (v - i) * beta
        return i + (v - self.v_reset - i) * beta + self.v_reset


class CuLIF(CurrentNeuron):
    """Current-based LIF with fixed time constants.

    `tau_m`, `tau_s`: time constants of membrane and synapse in time steps, above 0.
    `v_threshold` (1.0), `v_reset` (0.0, None: soft), `detach_reset` (True): as `Integrator`.
    `delay` (1): steps from an input to its earliest spike, see `CurrentNeuron`.
    `surrogate`: `FastSigmoid(5.0)`, which fires at >= with `delay=1` and at > with `delay=2`, as
    published.
    """

    def __init__(
        self,
        tau_m: float,
        tau_s: float,
        **options: Unpack[CurrentOptions],
    ) -> None:
        super().__init__(**options)
        for name, tau in (("tau_m", tau_m), ("tau_s", tau_s)):
            if not (math.isfinite(tau) and tau > 0):
                raise ValueError(f"{name}={tau}: a time constant is above 0 time steps")
        self.tau_m, self.tau_s = float(tau_m), float(tau_s)

    def step(self, x: Tensor, v: Tensor, i: Tensor) -> tuple[Tensor, ...]:
        return self.advance(x, v, i, math.exp(-1 / self.tau_m), math.exp(-1 / self.tau_s))

    def constants(self) -> dict[str, Tensor]:
        return {"tau_m": torch.tensor(self.tau_m), "tau_s": torch.tensor(self.tau_s)}


class PCuLIF(CurrentNeuron):
    """Current-based LIF whose two decays are tensors, learned or not.

    `tau_m`, `tau_s`: initial time constants in time steps, above 1.
    `shape`: `()` for one pair per layer, `(C,)` for one per channel (axis 2 of the input).
    `form`, what the parameters `membrane` and `synapse` are:
        "sigmoid"  raw values p with decay = sigmoid(p), p = -ln(exp(1 / tau) - 1) at first
        "direct"   the decays themselves, learned ones as if clamped to [2/e, 0.995] (with the
                   gradient of the identity); `clamp_()` brings the parameters back
    `learn=False`: they are buffers; the published autograd networks clamp these too.
    The other arguments as for `CuLIF`.
    """

    def __init__(
        self,
        tau_m: float,
        tau_s: float,
        *,
        shape: tuple[int, ...] = (),
        form: Form = "sigmoid",
        learn: bool = True,
        **options: Unpack[CurrentOptions],
    ) -> None:
        super().__init__(**options)
        if form not in ("sigmoid", "direct"):
            raise ValueError(f"form={form!r}: expected 'sigmoid' or 'direct'")
        self.form: Form = form
        self.membrane: Tensor
        self.synapse: Tensor
        for name, label, tau in (("membrane", "tau_m", tau_m), ("synapse", "tau_s", tau_s)):
            raw = raw_decay(tau, label)
            value = torch.full(shape, raw if form == "sigmoid" else math.exp(-1 / tau))
            if learn:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def coefs(self) -> dict[str, Tensor]:
        if self.form == "direct":
            if not isinstance(self.membrane, nn.Parameter):
                return {"beta": self.membrane, "alpha": self.synapse}
            bounds = LOWEST_DECAY, HIGHEST_DECAY
            return {"beta": within(self.membrane, *bounds), "alpha": within(self.synapse, *bounds)}
        return {"beta": self.membrane.sigmoid(), "alpha": self.synapse.sigmoid()}

    def step(
        self, x: Tensor, v: Tensor, i: Tensor, *, beta: Tensor, alpha: Tensor
    ) -> tuple[Tensor, ...]:
        return self.advance(x, v, i, beta, alpha)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Move decays of the direct form back into [2/e, 0.995]; raw values need no bounds."""
        if self.form == "direct":
            self.membrane.clamp_(LOWEST_DECAY, HIGHEST_DECAY)
            self.synapse.clamp_(LOWEST_DECAY, HIGHEST_DECAY)

    @torch.no_grad()
    def constants(self) -> dict[str, Tensor]:
        """`tau_m` and `tau_s` in time steps."""
        decays = self.coefs()
        return {"tau_m": -1 / decays["beta"].log(), "tau_s": -1 / decays["alpha"].log()}


def raw_decay(tau: float, name: str) -> float:
    """The raw value whose sigmoid is exp(-1 / tau)."""
    if not (math.isfinite(tau) and tau > 1):
        raise ValueError(f"{name}={tau}: an initial time constant must be above 1 time step")
    return -math.log(math.expm1(1 / tau))
