"""Photographs of any size, decoded when they are read and cut to one size.

Training cuts a random part of each image and resizes it to `size` x `size` ("random resized
crop"); evaluation resizes the shorter side to `shorter_side` and cuts out the centre. Both are
bilinear with antialiasing, as in Pillow. Where the bytes of an image come from, a file or a member
of a tar, makes no difference to its pixels.
"""

import io
import math
import struct
import zlib
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spikeloom.config.data import ImagesConfig
from spikeloom.data.base import DataSet, Source
from spikeloom.errors import DataError

Cut = Callable[[Image.Image], Image.Image]
"""From a whole image to the part of it that is given to the network."""

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")

_TRIES = 10
"""Draws of a part before the largest central one is taken, as torchvision has it."""


class ImageSource(Source):
    """A data set of photographs, cut to the size that a recipe asks for."""

    @abstractmethod
    def load(self, root: Path | None, images: ImagesConfig | None = None) -> DataSet:
        """As `Source.load`; `images` says how large they are cut (None: 224 x 224)."""


# What Pillow's decoders raise on damaged files.
_UNDECODABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class ImageSplit:
    """Images of one split, decoded as RGB when they are read."""

    in_memory = False
    draws = True
    """`read_random` cuts at random; the loader calls it for training."""

    def __init__(self, labels: Tensor, images: ImagesConfig) -> None:
        self._labels = labels
        self._images = images

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def labels(self) -> Tensor:
        return self._labels

    def content(self, index: int) -> bytes:
        """The bytes of the image file. Raises `DataError` if they cannot be read."""
        raise TypeError(f"{type(self).__name__} must override content(index)")

    def name(self, index: int) -> str:
        """Where the image is, for people."""
        raise TypeError(f"{type(self).__name__} must override name(index)")

    def read(self, indices: Tensor) -> Tensor:
        """uint8 `[B, 3, size, size]`: the centre of each image."""
        return self._decoded(indices, self._centre)

    def read_random(self, indices: Tensor, seed: int) -> Tensor:
        """uint8 `[B, 3, size, size]`: a part of each image, drawn by a generator of `seed`."""
        generator = np.random.default_rng(seed)

        def part(image: Image.Image) -> Image.Image:
            box = random_box(image.size, self._images, generator)
            size = self._images.size
            return image.resize((size, size), Image.Resampling.BILINEAR, box=box)

        return self._decoded(indices, part)

    def _decoded(self, indices: Tensor, cut: Cut) -> Tensor:
        size = self._images.size
        # Channels last, as they are decoded; convolutions are faster on it, too.
        batch = np.empty((len(indices), size, size, 3), dtype=np.uint8)
        for place, index in enumerate(indices.tolist()):
            content = self.content(index)
            try:
                with Image.open(io.BytesIO(content)) as image:
                    batch[place] = np.asarray(cut(image.convert("RGB")))
            except _UNDECODABLE as error:
                raise DataError(
                    f"{self.name(index)}: cannot be decoded as an image ({error}): fetch the file "
                    "again, or remove it"
                ) from error
        return torch.from_numpy(batch).permute(0, 3, 1, 2)

    def _centre(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        resize, size = self._images.shorter_side, self._images.size
        factor = resize / min(width, height)
        # The longer side is cut to a whole pixel, as torchvision does.
        width, height = (
            resize if side == min(width, height) else int(side * factor) for side in (width, height)
        )
        if width * height > (Image.MAX_IMAGE_PIXELS or math.inf):
            raise ValueError(f"{image.width} x {image.height} pixels are no picture")
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
