"""Threshold-dependent BatchNorm: statistics over all of time, output scaled to the threshold."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeloom.nn import synced
from spikeloom.nn.fold import is_constant


class TdBatchNorm(nn.Module):
    """Normalise every channel of `x` `[T, B, C, ...]` over time, batch, and positions.

        y = weight * alpha * threshold * (x - mean) / sqrt(var + eps) + bias

    so that the current into the next neurons has the deviation alpha * threshold when training
    starts. Training uses the biased variance; the running variance is fed with the unbiased one of
    all T * B * positions values, also where the current is constant over time. Evaluation uses the
    running statistics. The bias is not scaled.

    `channels`: C. `alpha` 1; 1 / sqrt(2) for the two norms that meet in a residual addition.
    `threshold` 0.5: a constant, it does not follow thresholds that are learned. `eps` 1e-5,
    `momentum` 0.1. Raises `ValueError` for a wrong channel count, and in training for one value per
    channel.
    Source: Zheng et al., AAAI 2021; as in the code of GLIF (Yao et al., NeurIPS 2022).
    """

    time_first = True
    synchronised = False
    """Whether the batch is that of all processes (`synced.synchronise`)."""

    def __init__(
        self,
        channels: int,
        *,
        alpha: float = 1.0,
        threshold: float = 0.5,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.alpha = alpha
        self.threshold = threshold
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
        if self.training:
            self.num_batches_tracked += 1
            if self.synchronised and synced.across_processes():
                return self._over_processes(x)
        if not is_constant(x):
            y = self._normalise(x.flatten(0, 1), self.running_mean, self.running_var)
            return y.unflatten(0, x.shape[:2])
        if not self.training:
            return self._normalise(x[0], self.running_mean, self.running_var).expand(x.shape)
        # On copies: what is handed to batch_norm is kept for its backward, and must not change.
        mean, var = self.running_mean.clone(), self.running_var.clone()
        y = self._normalise(x[0], mean, var).expand(x.shape)
        with torch.no_grad():
            # The unbiased variance divides by the number of values less one: T times those of x[0].
            seen, counted = x[0, :, 0].numel(), x[:, :, 0].numel()
            kept = self.running_var * (1 - self.momentum)
            unbiased = (var - kept) * ((seen - 1) / seen * counted / (counted - 1))
            self.running_mean.copy_(mean)
            self.running_var.copy_(kept + unbiased)
        return y

    def _over_processes(self, x: Tensor) -> Tensor:
        """As in `forward`, with the batch of all processes."""
        constant = is_constant(x)
        y = synced.batch_norm(
            x[:1] if constant else x.flatten(0, 1).unsqueeze(0),
            self.weight * (self.alpha * self.threshold),
            self.bias,
            self.running_mean,
            self.running_var,
            momentum=self.momentum,
            eps=self.eps,
            copies=len(x) if constant else 1,
        )
        return y.expand(x.shape) if constant else y.reshape(x.shape)

    def _normalise(self, samples: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        """`samples` `[N, C, ...]` with their own statistics, which update `mean` and `var`; in
        evaluation with these."""
        if self.training and samples[:, 0].numel() == 1:
            raise ValueError(
                f"one value per channel in an input of {list(samples.shape)}: TdBatchNorm needs "
                "two or more to train; use a larger batch, or call eval()"
            )
        return F.batch_norm(
            samples,
            mean,
            var,
            self.weight * (self.alpha * self.threshold),
            self.bias,
            self.training,
            self.momentum,
            self.eps,
        )

    def extra_repr(self) -> str:
        return f"{self.channels}, alpha={self.alpha:.4g}, threshold={self.threshold:g}"
