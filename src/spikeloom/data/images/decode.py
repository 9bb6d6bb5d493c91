"""Photographs of any size, decoded when they are read and cut to one size.

Training cuts a random part of each image and resizes it to `size` x `size` ("random resized
crop"); evaluation resizes the shorter side to `shorter_side` and cuts out the centre. Both are
bilinear with antialiasing, as in Pillow. Where the bytes of an image come from, a file or a member
of a tar, makes no difference to its pixels.
"""

import io
import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from spikeloom.config.data import ImagesConfig
from spikeloom.data.base import DataSpec, Split
from spikeloom.data.files.archive import BROKEN, first_line
from spikeloom.errors import DataError

Cut = Callable[[Image.Image], Image.Image]
"""From a whole image to the part of it that is given to the network."""

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM", "TIFF")
"""What Pillow may take a file for, whatever its name: others start programs (EPS: Ghostscript)."""

_TRIES = 10
"""Draws of a part before the largest central one is taken, as torchvision has it."""


def open_image(content: bytes, name: object, cut: Cut, mode: str = "RGB") -> Image.Image:
    """The image in `content` as 8 bits of `mode`, upright, after `cut`.

    16-bit images are scaled, 65535 to 255; turned ones are set upright as their EXIF entry says.
    Raises `DataError` if it is no image of `FORMATS`, damaged, or of floats.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.getexif().get(0x0112, 1) != 1:
                image = ImageOps.exif_transpose(image)
            return cut(_in_8_bits(image, mode))
    except (*BROKEN, Image.DecompressionBombError) as error:
        raise DataError(
            f"{name}: cannot be decoded as an image ({first_line(error)}): fetch the file "
            "again, or remove it"
        ) from error


def _in_8_bits(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, or 32 that hold them
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError(f"values from {values.min()} to {values.max()}, expected 16 bits")
        image = Image.fromarray((values / 257).round().astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("its pixels are floats without a known range: save it with 8 or 16 bits")
    return image.convert(mode)


class ImageFiles(Protocol):
    """Image files by number."""

    def read(self, index: int) -> bytes:
        """The bytes of one. Raises `DataError` if they cannot be read."""
        ...

    def name(self, index: int) -> str:
        """Where it is, for people."""
        ...


class ImageSplit(Split):
    """Images of one split, decoded as RGB when they are read."""

    draws = True

    def __init__(
        self, labels: Tensor | Sequence[int], images: ImagesConfig, files: ImageFiles
    ) -> None:
        self.labels = torch.as_tensor(labels, dtype=torch.int64)
        self.images = images
        self.files = files

    def read(self, indices: Tensor) -> Tensor:
        """uint8 `[B, 3, size, size]`: the centre of each image."""
        return self._decoded(indices, lambda image: centre(image, self.images))

    def read_random(self, indices: Tensor, seed: int) -> Tensor:
        """uint8 `[B, 3, size, size]`: a part of each image, drawn by a generator of `seed`."""
        generator = np.random.default_rng(seed)

        def part(image: Image.Image) -> Image.Image:
            box = random_box(image.size, self.images, generator)
            size = self.images.size
            return image.resize((size, size), Image.Resampling.BILINEAR, box=box)

        return self._decoded(indices, part)

    def _decoded(self, indices: Tensor, cut: Cut) -> Tensor:
        size = self.images.size
        # Channels last, as they are decoded; convolutions are faster on it, too.
        batch = np.empty((len(indices), size, size, 3), dtype=np.uint8)
        for place, index in enumerate(indices.tolist()):
            batch[place] = np.asarray(
                open_image(self.files.read(index), self.files.name(index), cut)
            )
        return torch.from_numpy(batch).permute(0, 3, 1, 2)


def sample(content: bytes, name: str, spec: DataSpec, images: ImagesConfig | None) -> Tensor:
    """One image of a user as uint8 `[C, H, W]` of the shape in `spec`.

    It is cut as `images` says; without, its shorter side is resized to that of the shape, and the
    centre cut out. Raises `DataError` if it cannot be decoded.
    """
    channels, height, width = spec.shape
    if channels not in (1, 3):
        raise DataError(
            f"{name}: {spec.name} has {channels} channels, and an image file has 1 or 3: give an "
            "array [C, H, W]"
        )

    def cut(image: Image.Image) -> Image.Image:
        if images is not None:
            return centre(image, images)
        return ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)

    pixels = np.array(open_image(content, name, cut, "L" if channels == 1 else "RGB"))
    return torch.from_numpy(pixels.reshape(height, width, channels)).permute(2, 0, 1)


def centre(image: Image.Image, images: ImagesConfig) -> Image.Image:
    """The middle of an image whose shorter side was resized to `images.resized`."""
    width, height = image.size
    resize, size = images.resized, images.size
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
