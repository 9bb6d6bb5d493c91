"""Normalising frames of event counts, as the PLIF and DSR programs offer it.

Per frame j and polarity plane:

    frequency  F / d_j          d_j: microseconds that frame j stands for
    max        F / max(max F, 1e-5)
    sum        F / max(sum F, 1e-5)
    norm       (F - mean F) / sqrt(max(var F, 1e-5))   var unbiased (H W - 1), as theirs

All published runs train on plain counts ("none").
"""

from typing import Literal

import torch
from torch import Tensor

Normalization = Literal["none", "frequency", "max", "sum", "norm"]
FLOOR = 1e-5


def normalize(counts: Tensor, how: Normalization, durations: Tensor | None = None) -> Tensor:
    """Frames `[T, ..., H, W]` of any type, normalised: float64 stays, others become float32.

    `durations` [T] or [T, B] in microseconds is needed for "frequency".
    """
    values = counts if counts.dtype == torch.float64 else counts.to(torch.float32)
    plane = (-2, -1)
    match how:
        case "none":
            return values
        case "frequency":
            if durations is None:
                raise ValueError('normalize(..., "frequency") needs the durations of the frames')
            shape = durations.shape + (1,) * (counts.dim() - durations.dim())
            return (counts.to(torch.float64) / durations.view(shape)).to(values.dtype)
        case "max":
            return values / values.amax(plane, keepdim=True).clamp_min(FLOOR)
        case "sum":
            return values / values.sum(plane, keepdim=True).clamp_min(FLOOR)
        case "norm":
            mean = values.mean(plane, keepdim=True)
            spread = values.var(plane, keepdim=True)
            return (values - mean) / spread.clamp_min(FLOOR).sqrt()
    raise ValueError(f"normalization {how!r}: expected none, frequency, max, sum or norm")
