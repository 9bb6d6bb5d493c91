"""BatchNorm for `[T, B, C, ...]`: statistics per time step, or over all time steps together."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spikeloom.compiler.constant import repeated_step
from spikeloom.neurons.fixed import FixedConstants
from spikeloom.nn.fold import is_constant
from spikeloom.processes import distributed, synced


class BatchNorm(FixedConstants):
    """Normalise every channel of `x` `[T, B, C, ...]`.

        y = weight * (x - mean) / sqrt(var + eps) + bias

    `statistics="per_step"`: mean and (biased) variance over batch and positions of each time step
    alone, one `weight` and `bias` for all, and T successive updates of the running statistics, in
    time order. This is what a network that is stepped through time computes, and how PLIF was
    published.
    `statistics="folded"`: one mean and variance over time, batch, and positions; one update of the
    running statistics per forward pass.
    In evaluation mode both use the running statistics. These follow torch:
    running <- (1 - momentum) * running + momentum * batch, with the unbiased variance of the batch.

    `channels`: C. `eps` 1e-5, `momentum` 0.1 (torch's defaults). Parameters and buffers have
    torch's names and shapes. Raises `ValueError` for a wrong channel count, and in training for a
    single value per channel, whose variance is undefined.

    On a CPU torch's kernels are about twice as fast with the channel last in memory (8 steps of
    8 x 128 x 14 x 14, float32, one thread, forward and backward: 3 ms against 6).
    """

    time_first = True
    scale = 1.0
    """What `weight` is multiplied by."""
    synchronised = False
    """Whether the batch is that of all processes (`synced.synchronise`)."""

    def __init__(
        self,
        channels: int,
        *,
        statistics: Literal["per_step", "folded"] = "per_step",
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if statistics not in ("per_step", "folded"):
            raise ValueError(f"statistics={statistics!r}: expected 'per_step' or 'folded'")
        self.channels = channels
        self.statistics = statistics
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.num_batches_tracked: Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        """`x` `[T, B, C, ...]` -> the same shape; a constant current stays one."""
        if x.dim() < 3 or x.shape[2] != self.channels:
            raise ValueError(
                f"input of shape {list(x.shape)}: expected [T, B, C, ...] with C={self.channels}"
            )
        updates = x.shape[0] if self.statistics == "per_step" else 1
        if self.training:
            self.num_batches_tracked += updates
        if self.training and self.synchronised and distributed.world_size() > 1:
            return self._over_processes(x, updates)
        if is_constant(x):
            # T updates with the same statistics are one with 1 - (1 - momentum)^T.
            momentum = 1 - (1 - self.momentum) ** updates
            if self.training and self.statistics == "folded":
                return self._constant_folded(x).expand(x.shape)
            return self._normalise(repeated_step(x), momentum).expand(x.shape)
        if self.training and self.statistics == "per_step":
            _check_values(x[0])
            if torch.compiler.is_compiling():  # a compiler of graphs cannot follow `out=`
                return torch.stack([self._normalise(step, self.momentum) for step in x.unbind(0)])
            running = self.running_mean, self.running_var
            return _PerStep.apply(x, self._gain(), self.bias, *running, self.momentum, self.eps)
        return self._normalise(x.flatten(0, 1), self.momentum).unflatten(0, x.shape[:2])

    def fixed(self) -> dict[str, Any]:
        return {"eps": self.eps, "scale": self.scale}

    def _gain(self) -> Tensor:
        return self.weight if self.scale == 1 else self.weight * self.scale

    def _normalise(
        self, samples: Tensor, momentum: float, variance: Tensor | None = None
    ) -> Tensor:
        """`samples` `[N, C, ...]` with the statistics of all of them, or the running ones;
        `variance`: which is updated, the running one if it is not given."""
        if self.training:
            _check_values(samples)
        running = self.running_mean, self.running_var if variance is None else variance
        affine = self._gain(), self.bias
        return F.batch_norm(samples, *running, *affine, self.training, momentum, self.eps)

    def _constant_folded(self, x: Tensor) -> Tensor:
        """One time step of `x`, with the running variance fed as if all T had been normalised: it
        takes the unbiased variance, which depends on how many values there are."""
        # A buffer of its own: autograd watches the one that F.batch_norm writes.
        variance = torch.zeros_like(self.running_var)
        y = self._normalise(repeated_step(x), self.momentum, variance)
        seen, counted = x[0, :, 0].numel(), x[:, :, 0].numel()
        with torch.no_grad():
            unbiased = variance * ((seen - 1) / seen * counted / (counted - 1))
            self.running_var.mul_(1 - self.momentum).add_(unbiased)
        return y

    def _over_processes(self, x: Tensor, updates: int) -> Tensor:
        """As in `forward`, with the batch of all processes."""
        groups, momentum, copies = x, self.momentum, 1
        if is_constant(x):
            groups = x[:1]
            if self.statistics == "per_step":
                momentum = 1 - (1 - self.momentum) ** updates
            else:
                copies = len(x)
        elif self.statistics == "folded":
            groups = x.flatten(0, 1).unsqueeze(0)
        running = self.running_mean, self.running_var
        affine = self._gain(), self.bias
        y = synced.batch_norm(
            groups, *affine, *running, momentum=momentum, eps=self.eps, copies=copies
        )
        return y.expand(x.shape) if is_constant(x) else y.reshape(x.shape)

    def extra_repr(self) -> str:
        return (
            f"{self.channels}, statistics={self.statistics!r}, "
            f"eps={self.eps:g}, momentum={self.momentum:g}"
        )


class TdBatchNorm(BatchNorm):
    """Threshold-dependent BatchNorm of `x` `[T, B, C, ...]`: statistics over all of time, output
    scaled to the threshold.

        y = weight * alpha * threshold * (x - mean) / sqrt(var + eps) + bias

    so that the current into the next neurons has the deviation alpha * threshold when training
    starts. As `BatchNorm(statistics="folded")` otherwise. The bias is not scaled.

    `channels`: C. `alpha` 1; 1 / sqrt(2) for the two norms that meet in a residual addition.
    `threshold` 0.5: a constant, it does not follow thresholds that are learned. `eps` 1e-5,
    `momentum` 0.1. Source: Zheng et al., AAAI 2021; as in the code of GLIF (Yao et al., NeurIPS
    2022).
    """

    def __init__(
        self,
        channels: int,
        *,
        alpha: float = 1.0,
        threshold: float = 0.5,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__(channels, statistics="folded", eps=eps, momentum=momentum)
        self.alpha = alpha
        self.threshold = threshold

    @property
    def scale(self) -> float:  # type: ignore[override]
        return self.alpha * self.threshold

    def extra_repr(self) -> str:
        return f"{self.channels}, alpha={self.alpha:.4g}, threshold={self.threshold:g}"


def _check_values(samples: Tensor) -> None:
    count = samples[:, 0].numel()
    if count == 1:
        raise ValueError(
            f"one value per channel in an input of {list(samples.shape)}: BatchNorm needs two or "
            "more to train; use a larger batch, or call eval()"
        )


def _dense(x: Tensor) -> Tensor:
    """`x`, copied if its time steps are neither contiguous nor channels_last: writing into a given
    output, torch's kernel gives wrong values for any other layout (seen with 2.13)."""
    if x.is_contiguous():
        return x
    if x.dim() == 5 and x.flatten(0, 1).is_contiguous(memory_format=torch.channels_last):
        return x
    return x.contiguous()


class _PerStep(torch.autograd.Function):
    """T calls of torch's batch normalisation, each writing its time step of one output.

    The results are those of T calls of `F.batch_norm` on the same memory layout, bit for bit,
    without the copies that stacking T outputs makes.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
    ) -> Tensor:
        x = _dense(x)
        y = torch.empty_like(x)
        running = running_mean, running_var
        # Saved in the dtype of the statistics: that of the parameters where x is half precision.
        mean, rstd = torch.empty(2, x.shape[0], x.shape[2], device=x.device, dtype=weight.dtype)
        for t in range(x.shape[0]):
            results = y[t], mean[t], rstd[t]
            torch.native_batch_norm(x[t], weight, bias, *running, True, momentum, eps, out=results)
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.eps = eps
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, mean, rstd = ctx.saved_tensors
        needs = list(ctx.needs_input_grad[:3])
        grad_x = torch.empty_like(x) if needs[0] else None
        sums: list[Tensor | None] = [None, None]
        for t in range(x.shape[0]):
            step, *affine = torch.ops.aten.native_batch_norm_backward(
                grads[0][t], x[t], weight, None, None, mean[t], rstd[t], True, ctx.eps, needs
            )
            if grad_x is not None:
                grad_x[t] = step
            for i, value in enumerate(affine):
                if needs[1 + i]:
                    sums[i] = value if sums[i] is None else sums[i] + value
        return grad_x, *sums, None, None, None, None
