"""BatchNorm whose batch is that of all processes that train together.

Of every channel each process knows count n_r, mean m_r, and M_r, the sum of squared deviations from
its own mean. These are gathered, and added up in the order of the processes (Chan et al., 1979):

    n = sum n_r     mean = sum n_r m_r / n     var = sum (M_r + n_r (m_r - mean)^2) / n

so that every process computes the same bits. Backward, with xhat = (x - mean) rstd, the two sums
over the whole batch, of dy and of dy xhat, are added up over the processes in the same way.

Which layers there are, and what they normalise over, is as with one process: `synchronise` gives
them this batch and changes nothing else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from spikeloom.processes import distributed


def synchronise(module: nn.Module) -> None:
    """Give every BatchNorm in `module` the batch of all processes, in training.

    Layers with an attribute `synchronised` are told so; torch's `BatchNorm1d`, `2d` and `3d` become
    `SyncedBatchNorm`, with the same parameters and buffers. With one process nothing changes.
    """
    for layer in list(module.modules()):
        if hasattr(type(layer), "synchronised"):
            layer.synchronised = True  # type: ignore[assignment]
        for name, child in layer.named_children():
            if type(child) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
                setattr(layer, name, SyncedBatchNorm(child))  # type: ignore[arg-type]


@contextmanager
def own_batches(module: nn.Module) -> Iterator[None]:
    """Inside the `with` block every BatchNorm in `module` takes the batch of its own process."""
    layers = [layer for layer in module.modules() if getattr(layer, "synchronised", False)]
    for layer in layers:
        layer.synchronised = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer in layers:
            layer.synchronised = True  # type: ignore[assignment]


class SyncedBatchNorm(_BatchNorm):
    """What torch's `norm` was, `[B, C, ...]`, over the batch of all processes in training.

    (`torch.nn.SyncBatchNorm` is the same on GPUs; it does not run on a CPU.)
    """

    synchronised = True

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(
            norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
        )
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and self.synchronised and distributed.world_size() > 1):
            return super().forward(input)
        momentum = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if momentum is None:  # torch: the plain mean over all batches
                momentum = 1 / float(self.num_batches_tracked)
        return batch_norm(
            input.unsqueeze(0),
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            momentum=momentum or 0.0,
            eps=self.eps,
        ).squeeze(0)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"input of shape {list(input.shape)}: expected [B, C, ...]")


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    *,
    momentum: float,
    eps: float,
    copies: int = 1,
) -> Tensor:
    """`x` `[G, N, C, ...]`, each of the G groups with its own statistics over N of all processes.

    The running statistics are updated G times, in order; their variance is the unbiased one of
    `copies` times as many values (a current that is constant over `copies` time steps). Processes
    may have different N. `ValueError` for one value per channel in all.
    """
    return _Synced.apply(x, weight, bias, running_mean, running_var, momentum, eps, copies)


# Collectives are for Python to call: torch.compile leaves this function as it is.
batch_norm._torchdynamo_disable = True  # type: ignore[attr-defined]


@torch.no_grad()
def mean_and_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance of each channel of `x` `[N, C, ...]` over all processes, `[C]`."""
    mean, var, count = _statistics(x.unsqueeze(0), x.dtype)
    return mean[0], var[0] * (count[0] / (count[0] - 1))


def _statistics(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance `[G, C]` and count `[G, 1]` of `x` `[G, N, C, ...]` on all
    processes, in `dtype`; sums in float64."""
    groups, channels = x.shape[0], x.shape[2]
    # One call of torch's own kernel per group; the running statistics that it wants are not ours.
    unused = torch.zeros(channels, dtype=dtype, device=x.device)
    mine = torch.empty(groups, 2 * channels + 1, dtype=torch.float64, device=x.device)
    mine[:, 0] = x[0, :, 0].numel()
    for group in range(groups):
        mean, var = torch.batch_norm_update_stats(x[group], unused, unused.clone(), 0.0)
        mine[group, 1:] = torch.cat([mean, var])
    counts, means, variances = distributed.gather(mine).split([1, channels, channels], dim=2)
    count = counts.sum(0)
    mean = (counts * means).sum(0) / count
    var = (counts * (variances + (means - mean).square())).sum(0) / count
    return mean.to(dtype), var.to(dtype), count


class _Synced(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
        copies: int,
    ) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32) if weight is None else weight.dtype
        mean, var, count = _statistics(x, dtype)
        if x[0, :, 0].numel() == 1 and int(count[0]) == 1:
            raise ValueError(
                "one value per channel on all processes together: BatchNorm needs two or more to "
                "train; use a larger batch, or call eval()"
            )
        y = torch.empty_like(x)
        for group in range(len(x)):
            y[group] = F.batch_norm(
                x[group], mean[group], var[group], weight, bias, False, 0.0, eps
            )
        if running_mean is not None and running_var is not None:
            seen = count * copies
            unbiased = (var * (seen / (seen - 1))).to(dtype)
            for group in range(len(x)):
                running_mean.mul_(1 - momentum).add_(mean[group], alpha=momentum)
                running_var.mul_(1 - momentum).add_(unbiased[group], alpha=momentum)
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.eps = eps
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, mean, var, count = ctx.saved_tensors
        dy = grads[0]
        grad_x = torch.empty_like(x)
        sums = torch.empty(2, *mean.shape, dtype=mean.dtype, device=x.device)
        for group in range(len(x)):
            # As in evaluation, where mean and variance are constants: dy weight rstd.
            grad_x[group], sums[0, group], sums[1, group] = (
                torch.ops.aten.native_batch_norm_backward(
                    dy[group],
                    x[group],
                    weight,
                    mean[group],
                    var[group],
                    None,
                    None,
                    False,
                    ctx.eps,
                    [True, True, True],
                )
            )
        mine = sums.sum(1)
        distributed.sum_over_ranks(sums)
        # What they depend on of x, over the whole batch: scale (mean dy + xhat mean(dy xhat)).
        rstd = (var + ctx.eps).rsqrt()
        scale = rstd if weight is None else weight * rstd
        with_xhat, plain = (sums / count).to(mean.dtype)
        slope = scale * rstd * with_xhat
        shape = (len(x), 1, -1, *[1] * (x.dim() - 3))
        offset = scale * plain - slope * mean
        grad_x -= (x * slope.view(shape) + offset.view(shape)).to(x.dtype)
        affine = (None, None) if weight is None else (mine[0], mine[1])
        return grad_x, *affine, None, None, None, None, None
