"""SpikingJelly's event data sets, from the folders of frames that it wrote.

    ROOT/frames_number_16_split_by_number/train/0/xxx.npz     (DVS128Gesture, NMNIST)
    ROOT/frames_number_10_split_by_number/airplane/xxx.npz    (CIFAR10DVS, NCaltech101, ASLDVS)

Each file has `frames` `[T, 2, H, W]`. Recordings themselves are read, and frames made of them, by
`spikeloom data`; this module is for the folders that are there already.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from spikeloom.errors import DataError


class FrameFolder(Dataset[Any]):
    """`(frames float32 [T, 2, H, W], class number)`, classes and files in the order of their names.

    `data_type` has to be "frame", with `frames_number` and `split_by` or with `duration`.
    """

    halves: ClassVar[bool] = False
    """Whether the publisher's training and test samples lie in folders of their own."""

    def __init__(
        self,
        root: str,
        train: bool | None = None,
        data_type: str = "event",
        frames_number: int | None = None,
        split_by: str | None = None,
        duration: int | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ) -> None:
        name = type(self).__name__
        if data_type != "frame" or not (duration or (frames_number and split_by)):
            raise NotImplementedError(
                f"{name}(data_type={data_type!r}): only the frames that SpikingJelly wrote are "
                "read here, data_type='frame' with frames_number and split_by, or duration; "
                "recordings are read by spikeloom.data.load (docs/data.md)"
            )
        kind = f"frames_number_{frames_number}_split_by_{split_by}"
        place = Path(root) / (f"duration_{duration}" if duration else kind)
        if self.halves:
            if train is None:
                raise ValueError(f"{name}: train=True or train=False")
            place /= "train" if train else "test"
        there = place.iterdir() if place.is_dir() else ()
        self.classes = sorted(path.name for path in there if path.is_dir())
        self.class_to_idx = {label: number for number, label in enumerate(self.classes)}
        self.samples = [
            (str(path), number)
            for label, number in self.class_to_idx.items()
            for path in sorted((place / label).glob("*.npz"))
        ]
        if not self.samples:
            raise DataError(
                f"{place}: no frames there, expected CLASS/*.npz as SpikingJelly writes them: "
                "make them with it, or train on the recordings with a recipe (docs/data.md)"
            )
        self.root, self.targets = Path(root), [number for _, number in self.samples]
        self.transform, self.target_transform = transform, target_transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path, label = self.samples[index]
        with np.load(path, allow_pickle=False) as arrays:
            frames: Any = arrays["frames"].astype(np.float32)
        if self.transform is not None:
            frames = self.transform(frames)
        return frames, label if self.target_transform is None else self.target_transform(label)


KINDS = {
    "cifar10_dvs": ("CIFAR10DVS", False),
    "dvs128_gesture": ("DVS128Gesture", True),
    "n_mnist": ("NMNIST", True),
    "n_caltech101": ("NCaltech101", False),
    "asl_dvs": ("ASLDVS", False),
}
"""By module its class, and whether the frames of that lie in `train` and `test`."""


def split_to_train_test_set(
    train_ratio: float, origin_dataset: Dataset[Any], num_classes: int, random_split: bool = False
) -> tuple[Subset[Any], Subset[Any]]:
    """The first `train_ratio` of each class, and the rest."""
    labels = getattr(origin_dataset, "targets", None)
    count = len(origin_dataset)  # type: ignore[arg-type]
    labels = [int(origin_dataset[i][1]) for i in range(count)] if labels is None else labels
    first: list[int] = []
    second: list[int] = []
    for number in range(num_classes):
        rows = [row for row, label in enumerate(labels) if int(label) == number]
        if random_split:
            np.random.shuffle(rows)  # noqa: NPY002  # SpikingJelly's generator
        cut = math.ceil(len(rows) * train_ratio)
        first += rows[:cut]
        second += rows[cut:]
    return Subset(origin_dataset, first), Subset(origin_dataset, second)


def pad_sequence_collate(batch: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Sequences `[N, T, ...]` filled with zeros, labels, and the length of each."""
    sequences = [torch.as_tensor(x) for x, _ in batch]
    labels = torch.as_tensor([y for _, y in batch])
    padded = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
    return padded, labels, torch.as_tensor([len(x) for x in sequences])


FUNCTIONS = {
    "split_to_train_test_set": split_to_train_test_set,
    "pad_sequence_collate": pad_sequence_collate,
}


def namespace(module: str) -> dict[str, Any]:
    """The names of `spikingjelly.datasets` (module "") or of a module in it."""
    if module not in KINDS:
        return {} if module else dict(FUNCTIONS)
    name, halves = KINDS[module]
    place = f"{__name__.rpartition('.')[0]}.datasets.{module}"
    members = {"halves": halves, "__module__": place}
    return {name: type(name, (FrameFolder,), members), **FUNCTIONS}
