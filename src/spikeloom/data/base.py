"""What a data set is to the rest of the library.

A `Source` knows one data set by name and reads it from its publisher's files into a `DataSet`; a
`DataSet` has a training and a test `Split`; a `Split` reads raw samples by index; a `Batch` is
what the network is given.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from spikeloom.data.spec import DataSpec
from spikeloom.errors import DataError


class Split(Protocol):
    """Samples of one split, read by index.

    `in_memory` is False where `read` goes to the disk or decodes, so that worker processes are
    worth their price; a split that is a tensor in memory is read by indexing, in microseconds.
    """

    in_memory: bool

    def __len__(self) -> int: ...

    @property
    def labels(self) -> Tensor:
        """Class of every sample, int64 `[N]`, known without reading a sample."""
        ...

    def read(self, indices: Tensor) -> Tensor:
        """Raw samples at `indices` (int64 `[B]`).

        Static images are uint8 `[B, C, H, W]`; event frames are time first, `[T, B, C, H, W]`.
        """
        ...


class TensorSplit:
    """A split held as one tensor: `inputs` uint8 `[N, C, H, W]`, `labels` int64 `[N]`."""

    in_memory = True

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        if len(inputs) != len(labels):
            raise DataError(
                f"{len(inputs)} samples come with {len(labels)} labels: give one for each sample"
            )
        self.inputs = inputs
        self._labels = labels.to(torch.int64)

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def labels(self) -> Tensor:
        return self._labels

    def read(self, indices: Tensor) -> Tensor:
        return self.inputs.index_select(0, indices)


class _Subset:
    """The samples of `split` at `indices`, in that order."""

    def __init__(self, split: Split, indices: Tensor) -> None:
        self.in_memory = split.in_memory
        self.draws = draws(split)
        self._split = split
        self._indices = indices
        self._labels = split.labels[indices]

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def labels(self) -> Tensor:
        return self._labels

    def read(self, indices: Tensor) -> Tensor:
        return self._split.read(self._indices[indices])

    def read_random(self, indices: Tensor, seed: int) -> Tensor:
        return read_random(self._split, self._indices[indices], seed)


def draws(split: Split) -> bool:
    """Whether reading samples of `split` for training takes random numbers (see `read_random`)."""
    return bool(getattr(split, "draws", False))


def read_random(split: Split, indices: Tensor, seed: int) -> Tensor:
    """Samples for training: as `split.read`, or, where `split.draws`, cut at random by a generator
    of `seed` while they are decoded."""
    if not draws(split):
        return split.read(indices)
    return split.read_random(indices, seed)  # type: ignore[attr-defined]


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


@dataclass(frozen=True, eq=False)
class Batch:
    """`inputs` after the transform, `targets` int64 `[B]`, and the `step` of the epoch, from 0.

    `total`: the samples of this step on all processes together.
    """

    inputs: Tensor
    targets: Tensor
    step: int
    total: int


class Source(ABC):
    """One data set by name: where its files are, and how they become a `DataSet`.

    `published` is the number of samples that the publisher's files hold, per split; `checksums` are
    the MD5 sums of the publisher's files by name, as far as they are known.
    """

    name: str
    title: str
    published: Mapping[str, int]
    checksums: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def load(self, root: Path | None) -> DataSet:
        """Read and check everything. `root` is where the user says that the files are.

        Raises `DataError` if a file is missing, damaged, or holds impossible values.
        """

    @abstractmethod
    def files(self, root: Path | None) -> tuple[Path, ...]:
        """The files that `load` reads. Raises `DataError` if one is missing."""

    def prepare(self, root: Path | None) -> str:
        """Convert the publisher's files where that pays, and say in one line what was done.

        Images are read as they were published, so all there is to do is to verify them.
        """
        self.load(root)
        return f"{self.name}: verified; images are read as published, nothing to prepare"

    def missing_samples(self, train: Split, test: Split) -> tuple[str, ...]:
        """A note for each split that holds fewer samples than the publisher's."""
        return tuple(
            f"{self.name} {split}: {len(samples):,} samples, "
            f"the publisher has {self.published[split]:,}"
            for split, samples in (("train", train), ("test", test))
            if len(samples) < self.published[split]
        )
