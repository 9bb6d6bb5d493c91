"""Feedback weights whose norm is bounded, so that the rates have one equilibrium.

The feedback of the rate map is a contraction if its operator norm stays below the threshold. Both
forms bound the norm of the weight seen as a matrix, which for a convolution is near its operator
norm but no bound of it (at the start 1.64 for the 64-channel 5x5 one, with a matrix norm of 1).

Use with `torch.nn.utils.parametrize`; inside `parametrize.cached()` the weight is computed once.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

Synapse = nn.Linear | nn.Conv2d | nn.ConvTranspose2d

_EPS = 1e-12


class SpectralRestriction(nn.Module):
    """W = clamp(gain, -limit, limit) * w / sigma,  sigma = u . (M v),  M = w as `[shape[0], rest]`

    Training: one power iteration per evaluation, v <- M^T u / |M^T u|, u <- M v / |M v|; no
    gradient flows through u and v. Evaluation leaves them alone, unless `iterate_in_eval`.
    `gain` starts at sigma(w). While it lies beyond the limit its gradient is 0: only weight decay
    brings it back, as published.

    `limit`: largest norm of the result.
    """

    def __init__(self, weight: Tensor, limit: float, *, iterate_in_eval: bool = False) -> None:
        super().__init__()
        self.limit = limit
        self.iterate_in_eval = iterate_in_eval
        matrix = weight.detach().flatten(1)
        u, v = _unit(matrix, 0), _unit(matrix, 1)
        for _ in range(10):
            u, v = _power_iteration(matrix, u)
        self.gain = nn.Parameter(torch.dot(u, matrix @ v))
        # Another pair than the one that measured the gain, as published.
        self.register_buffer("u", _unit(matrix, 0))
        self.register_buffer("v", _unit(matrix, 1))

    u: Tensor
    v: Tensor

    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        if self.training or self.iterate_in_eval:
            with torch.no_grad():
                u, v = _power_iteration(matrix, self.u)
                self.u.copy_(u)
                self.v.copy_(v)
        # Copies: the next call moves the buffers before this call's gradient may have been taken.
        sigma = torch.dot(self.u.clone(), torch.mv(matrix, self.v.clone()))
        return self.gain.clamp(-self.limit, self.limit) * weight / sigma


class NormRestriction(nn.Module):
    """W_i = clamp(gain_i, -limit, limit) * w_i / |w_i| for the weights w_i of each output unit.

    `gain` `[units]` starts at |w_i|. `axis`: that of the output units in the weight.
    """

    def __init__(self, weight: Tensor, limit: float, axis: int) -> None:
        super().__init__()
        self.limit = limit
        self.axis = axis
        self.gain = nn.Parameter(unit_norms(weight.detach(), axis).flatten())

    def forward(self, weight: Tensor) -> Tensor:
        norms = unit_norms(weight, self.axis)
        gain = self.gain.clamp(-self.limit, self.limit).view_as(norms)
        return weight * (gain / norms)


def output_axis(synapse: Synapse) -> int:
    """The axis of the weight that counts output units: 1 for a transposed convolution, else 0."""
    return 1 if isinstance(synapse, nn.ConvTranspose2d) else 0


def unit_norms(weight: Tensor, axis: int) -> Tensor:
    """The norm of each output unit's weights, in a shape that broadcasts against `weight`."""
    others = [i for i in range(weight.dim()) if i != axis]
    return weight.square().sum(others, keepdim=True).sqrt()


def restrict(
    synapse: Synapse,
    kind: Literal["spectral", "weight-norm"],
    limit: float,
    *,
    iterate_in_eval: bool = False,
) -> None:
    """Restrict `synapse.weight`; the raw weight becomes `parametrizations.weight.original`."""
    rule = (
        SpectralRestriction(synapse.weight, limit, iterate_in_eval=iterate_in_eval)
        if kind == "spectral"
        else NormRestriction(synapse.weight, limit, output_axis(synapse))
    )
    # unsafe: skips a trial call, which would be a power iteration.
    parametrize.register_parametrization(synapse, "weight", rule, unsafe=True)


def _unit(matrix: Tensor, axis: int) -> Tensor:
    """A random unit vector, as long as `matrix` is along `axis`."""
    return F.normalize(torch.randn_like(matrix.select(1 - axis, 0)), dim=0, eps=_EPS)


def _power_iteration(matrix: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    v = F.normalize(torch.mv(matrix.t(), u), dim=0, eps=_EPS)
    return F.normalize(torch.mv(matrix, v), dim=0, eps=_EPS), v
