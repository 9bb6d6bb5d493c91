"""Transforms between spiking layers: synapses, BatchNorm, pooling, and one dropout mask per call.

    current = mask * pool(BN(W s + b))

The same transform is applied to spikes at every time step and to rates in the equilibrium, with
other BatchNorm statistics: the caller says which.
"""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeloom.methods.ide.restriction import Synapse, output_axis, unit_norms
from spikeloom.processes import distributed, synced

Statistics = Literal["batch", "update", "running"]
"""BatchNorm with the statistics of the batch; the same, and the running ones are updated; or with
the running ones."""

_VARIANCE_EPS = 1e-8


class Masks:
    """The dropout masks of one forward pass: drawn at first use, then held.

    One multiplier, 0 or 1 / (1 - p), per transform, sample, and element of the current. `given`
    masks are used instead of drawn ones (for comparisons with other implementations).
    """

    def __init__(self, p: float = 0.0, given: Mapping[str, Tensor] | None = None) -> None:
        self.p = p
        self._masks = dict(given or {})

    def apply(self, name: str, current: Tensor) -> Tensor:
        """`current` `[B, ...]` or `[T, B, ...]` times the mask of the transform `name`."""
        if name not in self._masks and self.p > 0:
            mask = torch.empty(current.shape, dtype=current.dtype, device=current.device)
            self._masks[name] = mask.bernoulli_(1 - self.p).div_(1 - self.p)
        return current * self._masks[name] if name in self._masks else current


class WeightTransform(nn.Module):
    """One arrow of the network, on `[B, ...]`.

    `synapse`: `nn.Linear`, `nn.Conv2d`, or `nn.ConvTranspose2d`; its weights are drawn anew from
    U(-1, 1), then those of each output unit divided by their norm, its bias is set to 0.
    `norm`: BatchNorm (eps 1e-5, momentum 0.1) on the result. `pool`: average pooling 2x2.
    """

    synchronised = False
    """Whether the batch is that of all processes (`processes.synced.synchronise`)."""

    def __init__(self, synapse: Synapse, *, norm: bool, pool: bool = False) -> None:
        super().__init__()
        with torch.no_grad():
            weight = synapse.weight.uniform_(-1, 1)
            weight.div_(unit_norms(weight, output_axis(synapse)))
            if synapse.bias is not None:
                synapse.bias.zero_()
        self.synapse = synapse
        self.norm = _batchnorm(synapse) if norm else None
        self.pool = nn.AvgPool2d(2) if pool else None

    def forward(self, x: Tensor, statistics: Statistics) -> Tensor:
        return self.finish(self.normalise(self.synapse(x), statistics))

    def normalise(self, current: Tensor, statistics: Statistics) -> Tensor:
        """`current` after BatchNorm; unchanged if there is none."""
        norm, training, update = self.norm, statistics != "running", statistics == "update"
        if norm is None:
            return current
        mean, var = (None, None) if statistics == "batch" else (norm.running_mean, norm.running_var)
        momentum = norm.momentum or 0.0
        if update and norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        if training and self.synchronised and distributed.world_size() > 1:
            affine = norm.weight, norm.bias, mean, var
            whole = current.unsqueeze(0)
            return synced.batch_norm(whole, *affine, momentum=momentum, eps=norm.eps).squeeze(0)
        affine = norm.weight, norm.bias
        return F.batch_norm(current, mean, var, *affine, training, momentum, norm.eps)

    def normalise_like(self, current: Tensor, reference: Tensor) -> Tensor:
        """`current` with the statistics of `reference`, both before BatchNorm.

        Mean over batch and places, unbiased variance, divisor sqrt(variance + 1e-8): how event
        frames are normalised by the statistics of their average over time.
        """
        norm = self.norm
        if norm is None:
            return current
        shape = (1, -1, *[1] * (reference.dim() - 2))
        if self.synchronised and distributed.world_size() > 1:
            mean, var = (value.view(shape) for value in synced.mean_and_variance(reference))
        else:
            axes = [0, *range(2, reference.dim())]
            var, mean = torch.var_mean(reference, axes, keepdim=True)
        scale = norm.weight.view(shape) / (var + _VARIANCE_EPS).sqrt()
        return (current - mean) * scale + norm.bias.view(shape)

    def finish(self, current: Tensor) -> Tensor:
        return current if self.pool is None else self.pool(current)


def _batchnorm(synapse: Synapse) -> nn.BatchNorm1d | nn.BatchNorm2d:
    if isinstance(synapse, nn.Linear):
        return nn.BatchNorm1d(synapse.out_features)
    return nn.BatchNorm2d(synapse.out_channels)
