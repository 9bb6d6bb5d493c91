"""The integrate-and-fire family: a membrane potential that adds up its input and never leaks (IF),
leaks with a fixed (LIF) or a learned (PLIF) time constant, or leaks and never fires (LI).
"""

import math
from typing import Unpack

import torch
from torch import Tensor, nn

from spikeloom.neurons.neuron import Neuron, NeuronOptions


class IntegratorOptions(NeuronOptions, total=False):
    """What every integrate-and-fire neuron takes: see `Integrator`."""

    v_threshold: float
    v_reset: float | None
    detach_reset: bool


class Integrator(Neuron):
    """What the integrate-and-fire family shares: threshold and reset.

        fire    s_t = Theta(h_t - v_threshold)
        reset   hard  v_t = (1 - s_t) h_t + s_t v_reset
                soft  v_t = h_t - s_t v_threshold                (v_reset=None)

    A subclass charges the membrane, `h_t`, and hands it to `fire`.

    `v_threshold` (1.0) and `v_reset` (0.0, or None for soft reset) are in units of the membrane
    potential. `detach_reset` (True): no gradient flows through the spike that resets; the path from
    `h_t` stays. Every sample starts at `v_reset` (0 for soft reset).
    """

    observed = ("h",)

    def __init__(
        self,
        *,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        detach_reset: bool = True,
        **options: Unpack[NeuronOptions],
    ) -> None:
        super().__init__(**options)
        if v_reset is not None and not v_reset < v_threshold:
            raise ValueError(f"v_reset={v_reset} must lie below v_threshold={v_threshold}")
        self.v_threshold = float(v_threshold)
        self.v_reset = None if v_reset is None else float(v_reset)
        self.detach_reset = detach_reset

    def rest(self) -> dict[str, float]:
        return {"v": self.v_reset or 0.0}

    def fire(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(s, v, h)`: the spike, the potential after reset, and the potential `h` before it."""
        s = self.surrogate(h - self.v_threshold)
        r = s.detach() if self.detach_reset else s
        if self.v_reset is None:
            return s, h - r * self.v_threshold, h
        v = (1 - r) * h
        return s, v + r * self.v_reset if self.v_reset else v, h


class IF(Integrator):
    """Integrate-and-fire: `h_t = v_{t-1} + x_t`; fire and reset as `Integrator`."""

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return self.fire(v + x)


class LIF(Integrator):
    """Leaky integrate-and-fire.

        charge  h_t = v_{t-1} + (x_t - (v_{t-1} - v_reset)) / tau         decay_input=True
                h_t = v_{t-1} - (v_{t-1} - v_reset) / tau + x_t           decay_input=False
        fire, reset as `Integrator`

    `tau` (2.0): the membrane time constant in time steps, >= 1. With soft reset the charge leaks
    towards 0.
    """

    def __init__(
        self,
        tau: float = 2.0,
        *,
        decay_input: bool = True,
        **options: Unpack[IntegratorOptions],
    ) -> None:
        super().__init__(**options)
        if not (math.isfinite(tau) and tau >= 1):
            raise ValueError(f"tau={tau}: a membrane time constant is at least 1 time step")
        self.tau = float(tau)
        self.decay_input = decay_input

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        above = v - self.v_reset if self.v_reset else v
        if self.decay_input:
            return self.fire(v + (x - above) / self.tau)
        return self.fire(v - above / self.tau + x)

    def constants(self) -> dict[str, Tensor]:
        return {"tau": torch.tensor(self.tau)}


class PLIF(Integrator):
    """Parametric LIF: the membrane time constant is learned.

        k = sigmoid(w),  tau = 1 / k,  w starts at -ln(tau - 1)
        charge  h_t = v_{t-1} + k (x_t - (v_{t-1} - v_reset))             decay_input=True
                h_t = v_{t-1} - k (v_{t-1} - v_reset) + x_t               decay_input=False
        fire, reset as `Integrator`

    `tau` (2.0): initial time constant in time steps, > 1. `shape`: `()` for one `w` per layer, as
    published; `(C,)` for one per channel; `(C, H, W)` for one per neuron. Source: Fang et al., ICCV
    2021, sections 4.1 to 4.3.
    """

    def __init__(
        self,
        tau: float = 2.0,
        *,
        shape: tuple[int, ...] = (),
        decay_input: bool = True,
        **options: Unpack[IntegratorOptions],
    ) -> None:
        super().__init__(**options)
        if not (math.isfinite(tau) and tau > 1):
            raise ValueError(
                f"tau={tau}: the initial time constant of PLIF must be above 1 time step"
            )
        self.decay_input = decay_input
        self.w = nn.Parameter(torch.full(shape, -math.log(tau - 1)))

    @property
    def tau(self) -> Tensor:
        """The membrane time constant in time steps, in the shape of `w`."""
        return 1 / self.w.detach().sigmoid()

    def coefs(self) -> dict[str, Tensor]:
        return {"k": self.w.sigmoid()}

    def step(self, x: Tensor, v: Tensor, *, k: Tensor) -> tuple[Tensor, ...]:
        above = v - self.v_reset if self.v_reset else v
        if self.decay_input:
            return self.fire(v + (x - above) * k)
        return self.fire(v - above * k + x)

    def constants(self) -> dict[str, Tensor]:
        return {"tau": self.tau}


class LI(Neuron):
    """Leaky integrator, a readout that never fires: its output is its potential.

        v_t = v_{t-1} + (x_t - v_{t-1}) / tau                             decay_input=True
        v_t = v_{t-1} - v_{t-1} / tau + x_t                               decay_input=False

    The last layer of a network that answers with logits or with real values; `nn.Readout` makes one
    value of the course `[T, B, ...]`. v starts at 0.

    `tau` (2.0): the membrane time constant in time steps, >= 1. `learn` (False): learn it as PLIF
    does, 1 / tau = sigmoid(w), tau > 1; `shape` then: `()` for one `w`, `(C,)` for one per channel,
    `(C, H, W)` for one per neuron.
    """

    fires = False

    def __init__(
        self,
        tau: float = 2.0,
        *,
        learn: bool = False,
        shape: tuple[int, ...] = (),
        decay_input: bool = True,
        **options: Unpack[NeuronOptions],
    ) -> None:
        super().__init__(**options)
        if not (math.isfinite(tau) and tau >= 1 and (tau > 1 or not learn)):
            least = "above" if learn else "at least"
            raise ValueError(f"tau={tau}: a membrane time constant is {least} 1 time step")
        if shape and not learn:
            raise ValueError(f"shape={shape}: one tau for the layer unless it is learned")
        self.decay_input = decay_input
        self.learn = learn
        if learn:
            self.w = nn.Parameter(torch.full(shape, -math.log(tau - 1)))
        else:
            self.tau = float(tau)

    def coefs(self) -> dict[str, Tensor]:
        return {"k": self.w.sigmoid()} if self.learn else {}

    def step(self, x: Tensor, v: Tensor, *, k: Tensor | None = None) -> tuple[Tensor, ...]:
        drive = x - v if self.decay_input else -v
        v = v + (drive / self.tau if k is None else drive * k)
        v = v if self.decay_input else v + x
        return v, v

    def constants(self) -> dict[str, Tensor]:
        return {"tau": 1 / self.w.detach().sigmoid() if self.learn else torch.tensor(self.tau)}
