"""Images in folders, one folder per class, decoded when they are read; ImageNet.

    imagenet/train/<class>/<any name>.JPEG        imagenet/val/<class>/<any name>.JPEG

Classes are the folders' names in alphabetical order, the same in both. Training cuts a random part
of each image and resizes it to `size` x `size` ("random resized crop"); evaluation resizes the
shorter side to `shorter_side` and cuts out the centre. Both are bilinear with antialiasing, as in
Pillow. The random numbers come from the loader: an epoch is the same with any number of workers.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spikeloom.config.schema import ImagesConfig
from spikeloom.data.base import DataSet, Source
from spikeloom.data.files.places import candidates, missing
from spikeloom.data.spec import DataSpec
from spikeloom.errors import DataError

Cut = Callable[[Image.Image], Image.Image]
"""From a whole image to the part of it that is given to the network."""

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
VALIDATION = ("val", "validation", "test")

_TRIES = 10
"""Draws of a part before the largest central one is taken, as torchvision has it."""


class FolderSplit:
    """The images of one split, decoded as RGB when they are read."""

    in_memory = False
    draws = True
    """`read_random` cuts at random; the loader calls it for training."""

    def __init__(self, files: list[Path], labels: list[int], images: ImagesConfig) -> None:
        self.files = files
        self._labels = torch.tensor(labels, dtype=torch.int64)
        self._images = images

    def __len__(self) -> int:
        return len(self.files)

    @property
    def labels(self) -> Tensor:
        return self._labels

    def read(self, indices: Tensor) -> Tensor:
        """uint8 `[B, 3, size, size]`: the centre of each image."""
        return self._decoded([(int(i), self._centre) for i in indices])

    def read_random(self, indices: Tensor, seed: int) -> Tensor:
        """uint8 `[B, 3, size, size]`: a part of each image, drawn by a generator of `seed`."""
        generator = np.random.default_rng(seed)

        def part(image: Image.Image) -> Image.Image:
            box = random_box(image.size, self._images, generator)
            size = self._images.size
            return image.resize((size, size), Image.Resampling.BILINEAR, box=box)

        return self._decoded([(int(i), part) for i in indices])

    def _decoded(self, wanted: Sequence[tuple[int, Cut]]) -> Tensor:
        size = self._images.size
        batch = np.empty((len(wanted), size, size, 3), dtype=np.uint8)
        for place, (index, cut) in enumerate(wanted):
            path = self.files[index]
            try:
                with Image.open(path) as image:
                    batch[place] = np.asarray(cut(image.convert("RGB")))
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise DataError(
                    f"{path}: cannot be decoded as an image ({error}): fetch the file again, or "
                    "remove it"
                ) from error
        return torch.from_numpy(batch.transpose(0, 3, 1, 2).copy())

    def _centre(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        resize, size = self._images.shorter_side, self._images.size
        factor = resize / min(width, height)
        # The longer side is cut to a whole pixel, as torchvision does.
        width, height = (
            resize if side == min(width, height) else int(side * factor) for side in (width, height)
        )
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = round((width - size) / 2), round((height - size) / 2)
        return image.crop((left, top, left + size, top + size))


def random_box(
    size: tuple[int, int], config: ImagesConfig, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """A part (left, top, right, bottom) of an image of `size` (width, height).

    Its area is uniform in `config.scale` of the image's, the logarithm of width / height uniform
    between those of `config.ratio`; if ten draws do not fit, the largest central part within that
    ratio.
    """
    width, height = size
    low, high = (math.log(ratio) for ratio in config.ratio)
    for _ in range(_TRIES):
        area = width * height * generator.uniform(*config.scale)
        ratio = math.exp(generator.uniform(low, high))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left = int(generator.integers(width - w + 1))
            top = int(generator.integers(height - h + 1))
            return left, top, left + w, top + h
    ratio = min(max(width / height, config.ratio[0]), config.ratio[1])
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


class ImageFolder(Source):
    """A data set in the layout above. Without published numbers it takes what it finds."""

    def __init__(
        self,
        name: str,
        title: str,
        *,
        folders: tuple[str, ...],
        published: Mapping[str, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        origin: str,
    ) -> None:
        self.name = name
        self.title = title
        self.published = published
        self._folders = folders
        self._mean, self._std = mean, std
        self._origin = origin

    def load(self, root: Path | None, images: ImagesConfig | None = None) -> DataSet:
        """List both splits; `images` says how large they are cut (None: 224 x 224)."""
        images = images or ImagesConfig()
        train, test = self._find(root)
        classes = _classes(train)
        if (others := _classes(test)) != classes:
            odd = sorted(set(classes) ^ set(others))[0]
            raise DataError(
                f"{train} has {len(classes)} class folders and {test} has {len(others)}, "
                f"{odd!r} in only one of them: give both the same"
            )
        splits = [_split(folder, classes, images) for folder in (train, test)]
        spec = DataSpec(self.name, (3, images.size, images.size), tuple(classes))
        return DataSet(
            spec, splits[0], splits[1], self._mean, self._std, self.missing_samples(*splits)
        )

    def files(self, root: Path | None) -> tuple[Path, ...]:
        """The two folders; the images in them are too many to be listed."""
        return self._find(root)

    def prepare(self, root: Path | None) -> str:
        data = self.load(root)
        return (
            f"{self.name}: {len(data.train):,} + {len(data.test):,} images of "
            f"{data.spec.class_count} classes found; they are decoded when they are read"
        )

    def _find(self, root: Path | None) -> tuple[Path, Path]:
        looked_for = []
        for base in candidates(root, self._folders):
            for held_out in VALIDATION:
                if (base / "train").is_dir() and (base / held_out).is_dir():
                    return base / "train", base / held_out
            looked_for.append(base / "train")
        tree = f"{self._folders[0]}/\n    train/<class>/*.jpeg\n    val/<class>/*.jpeg"
        raise missing(self.name, looked_for, tree, self._origin)


def _classes(folder: Path) -> list[str]:
    found = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if not found:
        raise DataError(f"{folder} holds no folders: expected one folder of images per class")
    return found


def _split(folder: Path, classes: list[str], images: ImagesConfig) -> FolderSplit:
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(
            entry.name
            for entry in os.scandir(folder / name)
            if entry.name.lower().endswith(SUFFIXES)
        )
        if not found:
            raise DataError(
                f"{folder / name} holds no images: expected files that end in {', '.join(SUFFIXES)}"
            )
        files += [folder / name / file for file in found]
        labels += [label] * len(found)
    return FolderSplit(files, labels, images)


DATA_SETS = (
    ImageFolder(
        "imagenet",
        "ImageNet (ILSVRC 2012), photographs in 1,000 classes",
        folders=("imagenet", "ImageNet", "ILSVRC2012"),
        published={"train": 1_281_167, "test": 50_000},
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        origin="https://image-net.org (validation images sorted into class folders)",
    ),
    ImageFolder(
        "imagefolder",
        "images of your own, one folder per class",
        folders=("imagefolder",),
        published={"train": 0, "test": 0},
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        origin="wherever they are: data.root names the folder that holds train and val",
    ),
)
