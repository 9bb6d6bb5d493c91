"""Differentiation on the spike representation: one gradient per neuron and sample, not per step.

A neuron is summed up by its mean input r and its mean output o over T time steps (weighted means
for LIF). For large T

    IF    o = clamp(r,       0, threshold)
    LIF   o = clamp(r / tau, 0, threshold / delta_t)

The forward pass simulates all T steps; the backward pass differentiates the clamp in their place.
With g_t the gradient that arrives at step t,

                    IF                              LIF
    G               sum_t g_t                       T sum_t w_t g_t,   sum_t w_t = 1
    passes where    0 <= r <= threshold             0 < r < threshold tau / delta_t
    dL/dx_t         G / T  where it passes          G / (T tau)  where it passes, for every t
    saturates       r > threshold                   r > threshold tau / delta_t
    dL/dthreshold   c_IF  sum of G where it         c_LIF  sum of G where it
                    saturates                       saturates

The derivative of the clamp is c_IF = 1 and c_LIF = 1 / delta_t. The published code has c_LIF =
delta_t, and c_IF = 0.001 in its ImageNet half: `published_scale`, `true_scale`. Edges as there: a
silent input, r = 0, passes gradient in IF and blocks it in LIF; r on the upper edge of LIF gets
none of either.

Source: Meng et al., CVPR 2022, section 4; spec and code of its repository.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikeloom.compiler.constant import repeated_step
from spikeloom.neurons.neuron import GivenState
from spikeloom.neurons.scaled import Scaled, ScaledIF, ScaledLIF

IMAGENET_IF_SCALE = 0.001
"""c_IF in the published ImageNet code."""

_PASSES, _SATURATES = 1, 2


class Represented(Scaled):
    """A neuron of the scaled family that learns through its spike representation.

    `threshold_scale`: c, the factor of the threshold's gradient; the published one at first.

    For the backward pass a layer keeps one byte per neuron and sample: on which side of the edges
    of the clamp its mean input lies. Neither its input nor anything else over time is kept.
    """

    slope: float
    """do/dr inside the clamp."""
    published_scale: float
    """c of the published CIFAR code."""
    true_scale: float
    """c of the clamp's derivative."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.threshold_scale = self.published_scale

    def sides(self, r: Tensor, threshold: Tensor) -> Tensor:
        """Where the mean input r `[B, ...]` lies against the clamp, uint8 in its shape."""
        raise TypeError(f"{type(self).__name__} must override sides(r, threshold)")

    def forward(
        self, x: Tensor, state: GivenState = False, record: tuple[str, ...] | None = None
    ) -> Any:
        """Spikes `[T, B, ...]` of height 0 or threshold (LIF: over delta_t) for the current `x`.

        With `state` or `record` the answer is that of every neuron, but has no gradient: a mean
        over T steps is that of neurons which start at rest. ValueError if one is needed.
        """
        plain = state is False and record is None
        if not (torch.is_grad_enabled() and (x.requires_grad or self.threshold.requires_grad)):
            return super().forward(x) if plain else super().forward(x, state, record)  # type: ignore[arg-type]
        if not plain:
            raise ValueError(
                f"{type(self).__name__} got a state or a record: its gradient is that of neurons "
                "which start at rest; call it under torch.no_grad()"
            )
        # A current that is constant over time needs the sum of its gradients, one step of memory.
        constant = x.dim() > 1 and x.shape[0] > 1 and x.stride(0) == 0
        return _Representation.apply(
            repeated_step(x) if constant else x,
            self.threshold,
            self,
            x.shape[0] if constant else None,
        )


class DsrIF(Represented, ScaledIF):
    """`ScaledIF` with the clamp gradient: passes on [0, threshold], both edges included."""

    slope = published_scale = true_scale = 1.0

    def sides(self, r: Tensor, threshold: Tensor) -> Tensor:
        return _sides((r >= 0).logical_and_(r <= threshold), r > threshold)


class DsrLIF(Represented, ScaledLIF):
    """`ScaledLIF` with the clamp gradient: passes on (0, threshold tau / delta_t), edges excluded.

    The slope is 1 / tau, the limit for small delta_t; the neuron's own is (1 - beta) / delta_t,
    2.5 % less at delta_t = 0.05.
    """

    @property
    def slope(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 1 / self.tau

    @property
    def published_scale(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.delta_t

    @property
    def true_scale(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 1 / self.delta_t

    def sides(self, r: Tensor, threshold: Tensor) -> Tensor:
        top = threshold * self.tau / self.delta_t
        return _sides((r > 0).logical_and_(r < top), r > top)


def _sides(passes: Tensor, saturates: Tensor) -> Tensor:
    """Two masks in one byte each."""
    return saturates.view(torch.uint8).mul_(_SATURATES).add_(passes.view(torch.uint8))


class _Representation(torch.autograd.Function):
    """T simulated steps forward, the clamp backward.

    `time_steps` is None for an input `[T, B, ...]`; else `x` is `[B, ...]`, presented that often.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, threshold: Tensor, neuron: Represented, time_steps: int | None
    ) -> Tensor:
        whole = x if time_steps is None else x.expand(time_steps, *x.shape)
        run = neuron.run(whole)
        z = run.state[neuron.states.index("z")]
        bounded = threshold.clamp_min(neuron.bound).to(z.dtype)
        ctx.save_for_backward(neuron.sides(neuron.mean(z, whole.shape[0]), bounded))
        ctx.neuron, ctx.time_steps, ctx.dtype = neuron, time_steps, threshold.dtype
        return run.spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        neuron, (sides,), g = ctx.neuron, ctx.saved_tensors, grads[0]
        T = g.shape[0]
        total = _sum(g, neuron.weights(T), neuron.decay == 1)
        # On a CPU, products with a mask of floats are 25 times faster than with one of booleans.
        grad_threshold = None
        if ctx.needs_input_grad[1]:
            saturated = (sides >> 1).to(total.dtype).mul_(total).sum()
            grad_threshold = (saturated * neuron.threshold_scale).to(ctx.dtype)
        if not ctx.needs_input_grad[0]:
            return None, grad_threshold, None, None
        share = neuron.slope / T if ctx.time_steps is None else neuron.slope
        grad_x = total.mul_(share).mul_((sides & _PASSES).to(total.dtype)).to(g.dtype)
        if not ctx.time_steps:
            # Written out here, because autograd would do it with the channel first in memory.
            grad_x = torch.cat([grad_x] * T).unflatten(0, (T, -1))
        return grad_x, grad_threshold, None, None


def _sum(g: Tensor, weights: Sequence[float], even: bool) -> Tensor:
    """G `[B, ...]` of gradients `[T, B, ...]`, in float32 where they are half precision. Where the
    channel is last in memory it stays so: norms in front are slow on mixtures."""
    if g.dim() == 5 and g[0].is_contiguous(memory_format=torch.channels_last):
        return (
            _sum(g.movedim(2, -1).flatten(1), weights, even)
            .view(g.shape[1], *g.shape[3:], g.shape[2])
            .movedim(-1, 1)
        )
    dtype = torch.promote_types(g.dtype, torch.float32)
    if even:
        return g.sum(0, dtype=dtype)
    factors = torch.tensor(weights, dtype=dtype, device=g.device) * len(weights)
    return torch.tensordot(factors, g.to(dtype), 1)
