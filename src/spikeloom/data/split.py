"""The per-class split of a training set into training and validation samples (accuracy-B)."""

from math import ceil

import torch
from torch import Tensor


def split_per_class(labels: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """Indices `(train, validation)` of a split of every class at the same ratio.

    Of the `n_c` samples of class c, in the order of the data set, the first `ceil(n_c (1 -
    ratio))` are training samples and the rest validation samples. Indices are int64, class after
    class: all of class 0 first.

    `labels` is int `[N]`; `ratio` is the share of validation samples, above 0 and below 1
    (published: 0.15). Source: `split_dataset` in the published code of Fang et al. 2021, which
    reads and transforms every sample only to learn its label; here no sample is read.
    """
    if not 0 < ratio < 1:
        raise ValueError(f"the validation ratio is {ratio}: give a number above 0 and below 1")
    train: list[Tensor] = []
    validation: list[Tensor] = []
    for label in range(int(labels.max()) + 1 if labels.numel() else 0):
        indices = torch.nonzero(labels == label).flatten()
        count = ceil(len(indices) * (1 - ratio))
        train.append(indices[:count])
        validation.append(indices[count:])
    empty = torch.empty(0, dtype=torch.int64)
    return torch.cat([*train, empty]), torch.cat([*validation, empty])
