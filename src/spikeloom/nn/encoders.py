"""From intensities to spikes: rate coding and latency coding."""

import torch
from torch import Tensor, nn

from spikeloom.neurons.fixed import FixedConstants
from spikeloom.neurons.neuron import GivenState, State
from spikeloom.nn.state import StatefulLayer


class Poisson(nn.Module):
    """Rate coding: at every time step each input fires by itself with probability rate * x.

        s_t ~ Bernoulli(rate * x_t)

    `x` `[T, B, ...]`, intensities in [0, 1]; an image is shown as `image.expand(T, *image.shape)`,
    and drawn anew at each of the T steps. Spikes 0 or 1 of the same shape, without gradient, from
    torch's generator of the device; drawn step by step, so that pieces of a sequence get the
    numbers that the whole would.

    `rate` (1.0): spikes per step at intensity 1, in (0, 1]. `ValueError` for an `x` outside [0, 1].
    """

    time_first = True

    def __init__(self, rate: float = 1.0) -> None:
        super().__init__()
        if not 0 < rate <= 1:
            raise ValueError(f"rate={rate!r}: expected a probability above 0, at most 1")
        self.rate = rate

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """`x` `[T, B, ...]` -> spikes of the same shape."""
        _check_intensities(self, x)
        steps = [torch.bernoulli(step * self.rate) for step in x.unbind(0)]
        return torch.stack(steps) if steps else torch.empty_like(x)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


class Latency(StatefulLayer, FixedConstants):
    """Latency coding: each input fires once, the stronger the earlier.

        s_t = 1 where x > threshold and t = round((1 - x) (T - 1)),   t = 0 ... T - 1

    `x` `[T, B, ...]`, intensities in [0, 1], the same at all steps: `image.expand(T,
    *image.shape)`. Spikes 0 or 1 of the same shape, without gradient. In pieces, `y, state =
    latency(piece, state)`, the state counts the steps.

    `time_steps`: T. `threshold` (0.0): weaker inputs, or equal ones, never fire. `ValueError` for
    another number of steps than T, or an `x` outside [0, 1].
    """

    def __init__(self, time_steps: int, *, threshold: float = 0.0) -> None:
        super().__init__()
        if time_steps < 1:
            raise ValueError(f"time_steps={time_steps!r}: expected at least one time step")
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold={threshold!r}: expected an intensity in [0, 1)")
        self.time_steps = time_steps
        self.threshold = threshold

    def initial_state(self, x: Tensor) -> State:
        """No step has passed."""
        return (torch.tensor(0),)

    @torch.no_grad()
    def advance(self, x: Tensor, state: GivenState) -> tuple[Tensor, State]:
        """`x` `[T, B, ...]` -> spikes of the same shape; the state is the steps that passed."""
        _check_intensities(self, x)
        begin = int(state[0]) if state else 0
        end = begin + x.shape[0]
        if end > self.time_steps or (state is False and end < self.time_steps):
            raise ValueError(
                f"Latency codes over T={self.time_steps} time steps and got {x.shape[0]}"
                + (f" more after {begin}" if begin else "")
            )
        due = ((1 - x) * (self.time_steps - 1)).round()
        steps = torch.arange(begin, end, device=x.device).view(-1, *[1] * (x.dim() - 1))
        y = ((due == steps) & (x > self.threshold)).to(x.dtype)
        return y, (torch.tensor(end),)

    def extra_repr(self) -> str:
        return f"time_steps={self.time_steps}, threshold={self.threshold:g}"


def _check_intensities(encoder: nn.Module, x: Tensor) -> None:
    name = type(encoder).__name__
    if x.dim() < 2 or not x.is_floating_point():
        raise ValueError(
            f"{name} got {x.dtype} of shape {list(x.shape)}: expected floats [T, B, ...]; for "
            "images x.expand(T, *x.shape)"
        )
    if x.numel() and not torch.compiler.is_compiling():
        low, high = x[0].aminmax() if x.stride(0) == 0 else x.aminmax()
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"{name} got values from {low.item():.4g} to {high.item():.4g}: expected "
                "intensities in [0, 1]; leave out the normalisation, or rescale"
            )
