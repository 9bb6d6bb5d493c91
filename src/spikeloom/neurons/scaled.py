"""Integrate-and-fire neurons whose spikes are as high as their threshold, which may be learned."""

import math
from typing import Unpack

import torch
from torch import Tensor, nn

from spikeloom.neurons.neuron import Neuron, NeuronOptions
from spikeloom.neurons.ranges import within


class ScaledOptions(NeuronOptions, total=False):
    """What both scaled neurons hand through: see `Scaled`."""

    learn_threshold: bool


class Scaled(Neuron):
    """What the family shares: a threshold that is also the height of a spike, and a running mean.

        fire    s_t = threshold if h_t >= alpha * threshold else 0
        reset   v_t = h_t - s_t                                   (soft, by the whole threshold)
        mean    z_t = decay * z_{t-1} + x_t                        (summed up; z_T / W is the mean)

    `threshold`: its initial value; one scalar per layer. `alpha` in (0, 1]: with alpha = 1/2 the
    potential of a neuron driven between 0 and threshold stays centred around 0, which halves the
    distance between its rate and its input. `bound`: the threshold is used, and kept after each
    optimizer step (`apply_bound`), at this value or above. `learn_threshold`: a parameter if true,
    else a buffer. Every sample starts at 0, and a neuron fires at most once per time step.

    The state `z` advances in the one fused kernel, so that the mean input over T costs no memory
    over time. Source: Meng et al., CVPR 2022, sections 3 and 4, and its code.
    """

    states = ("v", "z")
    observed = ("h",)
    threshold: Tensor

    def __init__(
        self,
        threshold: float,
        *,
        alpha: float,
        bound: float,
        learn_threshold: bool = True,
        **options: Unpack[NeuronOptions],
    ) -> None:
        super().__init__(**options)
        if not (math.isfinite(threshold) and math.isfinite(bound) and bound > 0):
            raise ValueError(
                f"threshold={threshold}, bound={bound}: expected finite numbers, and bound above 0"
            )
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha={alpha}: expected a part of the threshold, above 0 up to 1")
        self.alpha = float(alpha)
        self.bound = float(bound)
        value = torch.tensor(float(threshold))
        if learn_threshold:
            self.threshold = nn.Parameter(value)
        else:
            self.register_buffer("threshold", value)

    def coefs(self) -> dict[str, Tensor]:
        return {"threshold": within(self.threshold, self.bound)}

    def constants(self) -> dict[str, Tensor]:
        return {"threshold": self.threshold.detach().clamp_min(self.bound)}

    @property
    def v_threshold(self) -> float:
        """The potential at which a neuron fires, alpha * threshold."""
        return self.alpha * max(self.threshold.item(), self.bound)

    @torch.no_grad()
    def apply_bound(self) -> None:
        """Lift the threshold to `bound` if an optimizer step took it below."""
        self.threshold.clamp_min_(self.bound)

    @property
    def decay(self) -> float:
        """What is left of a weight after one more time step: 1 for a plain mean."""
        return 1.0

    def weights(self, time_steps: int) -> list[float]:
        """Weight of each of the T time steps in a mean over time; they add up to 1."""
        raw = [self.decay ** (time_steps - t) for t in range(1, time_steps + 1)]
        return [weight / math.fsum(raw) for weight in raw]

    def mean(self, z: Tensor, time_steps: int) -> Tensor:
        """The (weighted) mean input after `time_steps` steps, from the final state `z`."""
        return z / math.fsum(self.decay**t for t in range(time_steps))


class ScaledIF(Scaled):
    """Integrate-and-fire: `h_t = v_{t-1} + x_t`; fire, reset, mean as `Scaled`.

    The output at step t is 0 or threshold. Driven by a mean input r, its mean output over T steps
    is clamp(r, 0, threshold) up to threshold / T. Defaults: threshold 6, alpha 0.5, bound 0.01, the
    published ones.
    """

    def __init__(
        self,
        threshold: float = 6.0,
        *,
        alpha: float = 0.5,
        bound: float = 0.01,
        **options: Unpack[ScaledOptions],
    ) -> None:
        super().__init__(threshold, alpha=alpha, bound=bound, **options)

    def step(self, x: Tensor, v: Tensor, z: Tensor, *, threshold: Tensor) -> tuple[Tensor, ...]:
        h = v + x
        s = self.surrogate(h - self.alpha * threshold) * threshold
        return s, h - s, z + x, h


class ScaledLIF(Scaled):
    """Leaky integrate-and-fire, stepped exactly in time.

        charge  h_t = beta v_{t-1} + (1 - beta) x_t,      beta = exp(-delta_t / tau)
        fire, reset, mean as `Scaled`; the output is s_t / delta_t, 0 or threshold / delta_t

    `tau` and `delta_t` in one unit of time. The mean weighs step t with
    exp(-delta_t (T - t) / tau). Driven by a weighted mean input r, the weighted mean output is
    about clamp(r / tau, 0, threshold / delta_t). Defaults: threshold 0.3, alpha 0.3, bound 0.0005,
    tau 1, delta_t 0.05, the published ones.
    """

    def __init__(
        self,
        threshold: float = 0.3,
        *,
        tau: float = 1.0,
        delta_t: float = 0.05,
        alpha: float = 0.3,
        bound: float = 5e-4,
        **options: Unpack[ScaledOptions],
    ) -> None:
        super().__init__(threshold, alpha=alpha, bound=bound, **options)
        for name, value in (("tau", tau), ("delta_t", delta_t)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}={value}: expected a time above 0")
        self.tau = float(tau)
        self.delta_t = float(delta_t)

    @property
    def decay(self) -> float:
        return math.exp(-self.delta_t / self.tau)

    def step(self, x: Tensor, v: Tensor, z: Tensor, *, threshold: Tensor) -> tuple[Tensor, ...]:
        beta = math.exp(-self.delta_t / self.tau)
        h = v * beta + x * (1 - beta)
        s = self.surrogate(h - self.alpha * threshold) * threshold
        return s / self.delta_t, h - s, z * beta + x, h
