"""Integrate-and-fire: the membrane potential adds up its input and never leaks."""

from typing import Unpack

from torch import Tensor

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
