"""Photographs that nobody took: to measure the input pipeline where ImageNet is not.

`imagenet-synthetic` has the classes of ImageNet and a hundredth of its images, as JPEG files in
memory: everything but the disk is as with the real ones. They are of the usual 500 x 375 pixels
and, with noise at three scales, of the usual 110 kB, so that decoding takes as long. There are 16
different ones; nothing can be learned from them.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from spikeloom.config.data import DataConfig, ImagesConfig
from spikeloom.data.api import Accept, Source
from spikeloom.data.base import DataSet, DataSpec
from spikeloom.data.images.decode import ImageSplit

CLASSES = 1000
WIDTH, HEIGHT = 500, 375

_DIFFERENT = 16
_SCALES = ((8, 60.0), (60, 40.0), (500, 17.0))
"""(columns, amplitude in grey levels) of each layer of noise."""


@dataclass(frozen=True)
class Repeated:
    """Number i is file i mod 16."""

    files: tuple[bytes, ...]

    def read(self, index: int) -> bytes:
        return self.files[index % len(self.files)]

    def name(self, index: int) -> str:
        return f"synthetic image {index}"


class SyntheticImages(Source):
    """The data set above; it needs no files."""

    name = "imagenet-synthetic"
    title = "made-up photographs in the sizes of ImageNet, to measure the input pipeline"
    published = {"train": 12_811, "test": 500}
    sections = ("images",)

    def load(self, root: Path | None = None, images: ImagesConfig | None = None) -> DataSet:
        """As `Source.load`; `root` is not looked at. `images` says how large they are cut."""
        images = images or ImagesConfig()
        files = Repeated(synthetic_jpegs(_DIFFERENT))
        spec = DataSpec(
            self.name,
            (3, images.size, images.size),
            tuple(f"class {number}" for number in range(CLASSES)),
        )
        train, test = (
            ImageSplit(torch.arange(self.published[split]) % CLASSES, images, files)
            for split in ("train", "test")
        )
        return DataSet(spec, train, test, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    def for_recipe(
        self, config: DataConfig, T: int | None, accept: Accept | None = None
    ) -> DataSet:
        return self.load(None, config.images)

    def files(self, root: Path | None) -> tuple[Path, ...]:
        return ()


def synthetic_jpegs(count: int) -> tuple[bytes, ...]:
    """`count` JPEG files of 500 x 375 pixels, the same ones each time."""
    generator = np.random.default_rng(0)
    return tuple(_jpeg(generator) for _ in range(count))


def _jpeg(generator: np.random.Generator) -> bytes:
    pixels = np.full((HEIGHT, WIDTH, 3), 128.0)
    for columns, amplitude in _SCALES:
        rows = columns * HEIGHT // WIDTH
        noise = generator.normal(0, amplitude, (rows, columns, 3)).clip(-127, 127)
        layer = Image.fromarray((128 + noise).astype(np.uint8))
        layer = layer.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        pixels += np.asarray(layer, dtype=np.float64) - 128
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


DATA_SETS = (SyntheticImages(),)
