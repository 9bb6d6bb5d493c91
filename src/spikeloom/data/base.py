"""What a data set is to the rest of the library.

A `DataSet` has a training and a test `Split`; a `Split` reads raw samples by index; a `DataSpec`
says what a sample is, and a `Batch` is what the network is given. Data sets are found by name: see
`registry`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from spikeloom.errors import DataError


@dataclass(frozen=True)
class DataSpec:
    """Shape and meaning of one sample.

    `shape` is one sample without time and batch: `(channels, height, width)` for images and frames.
    `kind` is "static" (an image, presented at every time step) or "events" (frames `[T, B,
    *shape]`). `targets`: of a regression, the number of real values to be told of a sample; there
    are no `classes` then, and labels are float32 `[N, targets]`.
    """

    name: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    kind: Literal["static", "events"] = "static"
    targets: int = 0

    @property
    def class_count(self) -> int:
        """The scores of a sample: one for each class, or each target of a regression."""
        return self.targets or len(self.classes)


class Split(Dataset[tuple[Tensor, Tensor]]):
    """Samples of one split, read by index. A split of one's own derives from it.

    It is a `torch.utils.data.Dataset` of (raw sample, label), so that a DataLoader of PyTorch takes
    it, and its samplers and collating. Event frames `[T, C, H, W]` are collated batch first there;
    `data.Loader` gives time first.

    `in_memory` is False where `read` goes to the disk or decodes, so that worker processes are
    worth their price; a split that is a tensor in memory is read by indexing, in microseconds.
    """

    labels: Tensor
    """Class of every sample, int64 `[N]`, known without reading a sample; of a regression its real
    targets, `[N, K]`."""

    in_memory: bool = False
    draws: bool = False
    """Whether samples for training are cut at random while they are decoded (`read_random`)."""

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: Tensor) -> Tensor:
        """Raw samples at `indices` (int64 `[B]`).

        Static images are uint8 `[B, C, H, W]`; event frames and series are time first,
        `[T, B, C, H, W]` and `[T, B, C]`.
        """
        raise TypeError(f"{type(self).__name__} must override read(indices)")

    def read_random(self, indices: Tensor, seed: int) -> Tensor:
        """Samples for training, cut by a generator of `seed` if `draws`, else as `read`."""
        del seed
        return self.read(indices)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """The raw sample at `index`, without a batch axis, and its label."""
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"sample {index} of a split of {size}: give {-size}..{size - 1}")
        sample = self.read(torch.tensor([index % size]))
        time_first = sample.dim() in (3, 5)  # series, frames of events
        return sample.select(1 if time_first else 0, 0), self.labels[index % size]


class TensorSplit(Split):
    """A split held as one tensor: `inputs` uint8 `[N, C, H, W]`, `labels` int64 `[N]`."""

    in_memory = True

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        if len(inputs) != len(labels):
            raise DataError(
                f"{len(inputs)} samples come with {len(labels)} labels: give one for each sample"
            )
        self.inputs = inputs
        self.labels = labels if labels.is_floating_point() else labels.to(torch.int64)

    def read(self, indices: Tensor) -> Tensor:
        return self.inputs.index_select(0, indices)


class _Subset(Split):
    """The samples of `split` at `indices`, in that order."""

    def __init__(self, split: Split, indices: Tensor) -> None:
        self.in_memory = split.in_memory
        self.draws = split.draws
        self._split = split
        self._indices = indices
        self.labels = split.labels[indices]

    def read(self, indices: Tensor) -> Tensor:
        return self._split.read(self._indices[indices])

    def read_random(self, indices: Tensor, seed: int) -> Tensor:
        return self._split.read_random(self._indices[indices], seed)


def subset(split: Split, indices: Tensor) -> Split:
    """The split that holds only the samples at `indices` (int64 `[M]`), in that order.

    Raises `DataError` if an index is negative or beyond the end.
    """
    if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < len(split):
        raise DataError(
            f"subset indices run from {int(indices.min())} to {int(indices.max())}, "
            f"the split has {len(split)} samples: give indices in 0..{len(split) - 1}"
        )
    return _Subset(split, indices.to(torch.int64))


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set that was read and checked.

    `mean` and `std` are per channel, for samples scaled to 0..1; mean 0 and std 1 where the data
    set's users do not normalise. `notes` are facts that a reader of results must know, for example
    that samples are missing.
    """

    spec: DataSpec
    train: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, split in (("train", self.train), ("test", self.test)):
            labels, count = split.labels, len(self.spec.classes)
            if not len(labels):
                raise DataError(
                    f"{self.spec.name}: the {name} split has no samples: complete the files, or "
                    "name the folder that holds both splits"
                )
            if not self.spec.classes:
                continue
            low, high = int(labels.min()), int(labels.max())
            if not 0 <= low <= high < count:
                raise DataError(
                    f"{self.spec.name} {name}: labels run from {low} to {high}, expected 0 to "
                    f"{count - 1}, one for each of {count} classes"
                )


@dataclass(frozen=True, eq=False)
class Batch:
    """`inputs` after the transform, `targets` int64 `[B]`, and the `step` of the epoch, from 0.

    `total`: the samples of this step on all processes together. Of a mixture of samples `targets`
    count for `share` of the loss, and the targets `other` for the rest.
    """

    inputs: Tensor
    targets: Tensor
    step: int
    total: int
    other: Tensor | None = None
    share: float = 1.0

    def __iter__(self) -> Iterator[Tensor]:
        """`inputs, targets = batch`"""
        return iter((self.inputs, self.targets))


def missing_samples(
    name: str, published: Mapping[str, int], train: Split, test: Split
) -> tuple[str, ...]:
    """A note for each split that holds fewer samples than the publisher's."""
    return tuple(
        f"{name} {split}: {len(samples):,} samples, the publisher has {published[split]:,}"
        for split, samples in (("train", train), ("test", test))
        if len(samples) < published[split]
    )


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
