"""Delays that are learned: how many time steps a spike is on its way.

    y_t = sum over tau = 0 ... D of  g(tau - d) x_{t - tau},      x before the first step is 0

    training     g(z) = exp(-z^2 / (2 sigma^2)), divided by its sum over tau = 0 ... D
    evaluation   g is 1 at d rounded to a whole step, else 0

d is learned by its gradient through g, as if clamped to [0, D]. A wide g sees many delays at once;
sigma shrinks while training, so that what is learned is what evaluation does. Source: Hammouamri,
Khalfaoui-Hassani, Masquelier, "Learning delays in spiking neural networks using dilated
convolutions with learnable spacings", ICLR 2024 (their Gaussian version).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeloom.neurons.fixed import FixedConstants
from spikeloom.neurons.neuron import GivenState, State
from spikeloom.neurons.ranges import within
from spikeloom.nn.delay_sum import delayed_sum
from spikeloom.nn.state import StatefulLayer

FINAL_SIGMA = 0.5
"""The deviation of g, in time steps, at which it stops shrinking, as published."""


class _Delayed(StatefulLayer, FixedConstants):
    """What both layers share: delays, sigma, and the steps whose spikes are still on their way."""

    def __init__(self, shape: tuple[int, ...], longest: int, sigma: float | None, decay: float):
        super().__init__()
        if longest < 1:
            raise ValueError(f"longest={longest!r}: expected a delay of at least one time step")
        if sigma is not None and not (math.isfinite(sigma) and sigma >= FINAL_SIGMA):
            raise ValueError(f"sigma={sigma!r}: expected at least {FINAL_SIGMA} time steps")
        if not 0 < decay <= 1:
            raise ValueError(f"decay={decay!r}: expected a factor per step above 0, at most 1")
        self.longest = longest
        self.decay = decay
        self.delay = nn.Parameter(torch.rand(shape) * longest)
        self.sigma: Tensor
        start = max(longest / 2, FINAL_SIGMA) if sigma is None else sigma
        self.register_buffer("sigma", torch.tensor(float(start)))

    @torch.no_grad()
    def anneal(self) -> None:
        """After an optimizer step: sigma <- max(sigma * decay, 0.5)."""
        self.sigma.mul_(self.decay).clamp_(min=FINAL_SIGMA)

    def fixed(self) -> dict[str, object]:
        return {"longest": self.longest}

    def delays(self) -> Tensor:
        """The whole delays of evaluation, int64, in the shape of `delay`."""
        return self.delay.detach().clamp(0, self.longest).round().long()

    def weights(self) -> Tensor:
        """g over tau = 0 ... D, in the shape of `delay` with an axis of D + 1 at the end."""
        taps = torch.arange(self.longest + 1, device=self.delay.device, dtype=self.delay.dtype)
        if not self.training:
            return (taps == self.delays().unsqueeze(-1)).to(self.delay.dtype)
        z = (taps - within(self.delay, 0, self.longest).unsqueeze(-1)) / self.sigma
        return torch.softmax(-0.5 * z * z, -1)

    def initial_state(self, x: Tensor) -> State:
        """The D steps before the first: zeros `[D, B, ...]`."""
        return (x.new_zeros(self.longest, *x.shape[1:]),)

    def advance(self, x: Tensor, state: GivenState) -> tuple[Tensor, State]:
        """As in the class; the state is the last D steps of the input."""
        self._check(x)
        (before,) = state or self.initial_state(x)
        if before.shape != (self.longest, *x.shape[1:]):
            raise ValueError(
                f"{type(self).__name__} got a state of shape {list(before.shape)}: expected "
                f"{[self.longest, *x.shape[1:]]}"
            )
        past = torch.cat([before.to(x.dtype), x])
        return self._delayed(past, x.shape[0]), (past[x.shape[0] :],)

    def _check(self, x: Tensor) -> None:
        raise NotImplementedError

    def _delayed(self, past: Tensor, steps: int) -> Tensor:
        """The answer to the last `steps` of `past` `[D + steps, B, ...]`."""
        raise NotImplementedError


class Delay(_Delayed):
    """A learned delay for every channel of `x` `[T, B, C, ...]`; the equation is above.

    `channels`: C. `longest`: D, in time steps. d starts uniform in [0, D], from torch's generator.
    `sigma`: at first, in time steps, at least 0.5; None: D / 2. `decay` (0.99): what `anneal()`
    multiplies sigma by; call it after every optimizer step, as a `Classifier` does in `after_step`.
    In pieces, `y, state = delay(piece, state)`, the state is the last D steps of the input.
    """

    def __init__(
        self, channels: int, longest: int, *, sigma: float | None = None, decay: float = 0.99
    ) -> None:
        super().__init__((channels,), longest, sigma, decay)

    def _check(self, x: Tensor) -> None:
        if x.dim() < 3 or x.shape[2] != len(self.delay):
            raise ValueError(
                f"input of shape {list(x.shape)}: expected [T, B, C, ...] with C={len(self.delay)}"
            )

    def _delayed(self, past: Tensor, steps: int) -> Tensor:
        if not self.training:
            # A shift per channel: nothing is multiplied.
            at = torch.arange(steps, device=past.device).unsqueeze(1) + self.longest - self.delays()
            at = at.view(steps, 1, -1, *[1] * (past.dim() - 3))
            return past.gather(0, at.expand(steps, *past.shape[1:]))
        return delayed_sum(past, self.weights(), steps)

    def extra_repr(self) -> str:
        return f"{len(self.delay)}, longest={self.longest}, decay={self.decay:g}"


class DelayedLinear(_Delayed):
    """A linear map whose every synapse has a learned delay, `x` `[T, B, in]` -> `[T, B, out]`.

        y_{t, o} = sum over i of  w_{o, i} sum over tau of  g(tau - d_{o, i}) x_{t - tau, i}  + b_o

    `in_features`, `out_features`, `bias`, and the start of w and b: as `nn.Linear`; the rest as
    `Delay`. It costs D + 1 linear maps in training; `Delay` before a linear map costs about one.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        longest: int,
        *,
        bias: bool = True,
        sigma: float | None = None,
        decay: float = 0.99,
    ) -> None:
        super().__init__((out_features, in_features), longest, sigma, decay)
        linear = nn.Linear(in_features, out_features, bias)
        self.weight = linear.weight
        self.bias = linear.bias

    def _check(self, x: Tensor) -> None:
        if x.dim() != 3 or x.shape[2] != self.delay.shape[1]:
            raise ValueError(
                f"input of shape {list(x.shape)}: expected [T, B, {self.delay.shape[1]}]"
            )

    def _delayed(self, past: Tensor, steps: int) -> Tensor:
        taps = self.weight.unsqueeze(-1) * self.weights()
        y = F.conv1d(past.permute(1, 2, 0), taps.flip(-1).to(past.dtype), self.bias)
        return y.permute(2, 0, 1)

    def extra_repr(self) -> str:
        out, inputs = self.delay.shape
        return f"{inputs}, {out}, longest={self.longest}, bias={self.bias is not None}"
