"""MNIST and Fashion-MNIST from their publishers' IDX files, packed or not.

An IDX file is big-endian and has nothing after its last value:

    byte 0    2 x 0x00
    byte 2    type of the values: 0x08, unsigned bytes
    byte 3    number of axes n
    byte 4    n x uint32: the length of each axis
    then      the values, the last axis fastest

Four of them, each plain or with `.gz`, make a data set; the three layouts in use are found:

    MNIST/train-images-idx3-ubyte[.gz]          or in  MNIST/raw/  or in  MNIST/MNIST/raw/
          train-labels-idx1-ubyte[.gz]
          t10k-images-idx3-ubyte[.gz]
          t10k-labels-idx1-ubyte[.gz]

Some programs unpack them as `train-images.idx3-ubyte`, which is found too.
"""

import gzip
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from spikeloom.data.api import Remote, Source, candidates
from spikeloom.data.base import DataSet, DataSpec, TensorSplit, missing_samples
from spikeloom.data.files.archive import BROKEN, unreadable
from spikeloom.errors import DataError

_UNSIGNED_BYTES = 0x08
_SIZE = (28, 28)
_STEMS = tuple(
    f"{split}-{kind}-ubyte"
    for split in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)


def read_idx(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """The values of an IDX file of unsigned bytes, uint8 `[N, *shape]`; a `.gz` is unpacked.

    Raises `DataError` unless the file has this many axes of these lengths, and exactly the bytes
    that its header announces.
    """
    axes = 1 + len(shape)
    head = 4 + 4 * axes
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            content = file.read()
    except BROKEN as error:
        raise unreadable(path, error) from error
    magic = bytes([0, 0, _UNSIGNED_BYTES, axes])
    if content[:4] != magic:
        raise DataError(
            f"{path}: byte 0: magic is 0x{content[:4].hex() or '(nothing)'}, expected "
            f"0x{magic.hex()} (unsigned bytes, {axes} axes): fetch the file again"
        )
    if len(content) < head:
        raise DataError(
            f"{path}: byte {len(content)}: the file ends inside its header of {head} bytes: fetch "
            "it again"
        )
    count, *lengths = struct.unpack(f">{axes}I", content[4:head])
    if tuple(lengths) != shape:
        raise DataError(
            f"{path}: byte 8: records of {_by(lengths)} values, expected {_by(shape)}: "
            "this is another data set's file, or fetch it again"
        )
    expected, actual = count * math.prod(shape), len(content) - head
    if actual != expected:
        what = "bytes go on after" if actual > expected else f"only {actual:,} bytes of"
        raise DataError(
            f"{path}: byte {head + min(actual, expected):,}: {what} the {expected:,} that "
            f"{count:,} records need: fetch the file again"
        )
    return np.frombuffer(content, np.uint8, offset=head).reshape(count, *shape).copy()


def _by(lengths: tuple[int, ...] | list[int]) -> str:
    return "x".join(map(str, lengths)) or "1"


@dataclass(frozen=True, kw_only=True)
class IdxImages(Source):
    """A data set of 28x28 grey images in four IDX files, with their mean and deviation."""

    name: str
    title: str
    folder: str
    classes: tuple[str, ...]
    mean: float
    std: float
    origin: str
    remotes: tuple[Remote, ...]
    checksums: Mapping[str, str] = field(default_factory=dict)

    published = {"train": 60_000, "test": 10_000}

    def load(self, root: Path | None = None) -> DataSet:
        images, labels, test_images, test_labels = self.files(root)
        train, test = self._split(images, labels), self._split(test_images, test_labels)
        spec = DataSpec(self.name, (1, *_SIZE), self.classes)
        notes = missing_samples(self.name, self.published, train, test)
        return DataSet(spec, train, test, (self.mean,), (self.std,), notes)

    def files(self, root: Path | None) -> tuple[Path, ...]:
        """Images and labels for training, then for testing, all from one folder."""
        places = [
            base / layout
            for base in candidates(root, (self.folder,))
            for layout in ("", "raw", f"{self.folder}/raw")
        ]
        for place in places:
            paths = [_plain_or_packed(place, stem) for stem in _STEMS]
            if not any(paths):
                continue
            for stem, path in zip(_STEMS, paths, strict=True):
                if path is None:
                    raise DataError(
                        f"{place / stem}: missing, and no {stem}.gz either, though other files of "
                        f"{self.name} are there: get it from {self.origin}"
                    )
            return tuple(path for path in paths if path is not None)
        stems = "".join(f"\n    {stem}[.gz]" for stem in _STEMS)
        tree = f"{self.folder}/   (or {self.folder}/raw/){stems}"
        raise self.missing((place / _STEMS[0] for place in places), tree)

    def _split(self, images_path: Path, labels_path: Path) -> TensorSplit:
        images = read_idx(images_path, _SIZE)
        labels = read_idx(labels_path, ())
        if len(images) != len(labels):
            raise DataError(
                f"{labels_path}: byte 4: {len(labels):,} labels for the {len(images):,} images of "
                f"{images_path.name}: fetch both files again"
            )
        wrong = np.flatnonzero(labels >= len(self.classes))
        if len(wrong):
            raise DataError(
                f"{labels_path}: byte {8 + wrong[0]:,}: label {labels[wrong[0]]} of sample "
                f"{wrong[0]:,}, expected 0..{len(self.classes) - 1}: fetch the file again"
            )
        return TensorSplit(torch.from_numpy(images[:, None]), torch.from_numpy(labels))


def _plain_or_packed(place: Path, stem: str) -> Path | None:
    dotted = stem.replace("-idx", ".idx")
    names = (stem, f"{stem}.gz", dotted, f"{dotted}.gz")
    return next((place / name for name in names if (place / name).is_file()), None)


def _remotes(base: str, folder: str, sums: Mapping[str, str]) -> tuple[Remote, ...]:
    return tuple(
        Remote(f"{base}/{name}", f"{folder}/raw/{name}", f"md5:{md5}")
        for name, md5 in sums.items()
        if name.endswith(".gz")
    )


_MNIST_HOME = "https://ossci-datasets.s3.amazonaws.com/mnist"
_MNIST_SUMS = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
_FASHION_HOME = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
_FASHION_SUMS = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
_CLOTHES = (
    "T-shirt/top,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot"  # in label order
)

DATA_SETS = (
    IdxImages(
        name="mnist",
        title="handwritten digits, 28x28 grey (LeCun, Cortes)",
        folder="MNIST",
        classes=tuple(str(digit) for digit in range(10)),
        mean=0.1307,
        std=0.3081,
        origin=f"{_MNIST_HOME}/",
        remotes=_remotes(_MNIST_HOME, "MNIST", _MNIST_SUMS),
        checksums=_MNIST_SUMS,
    ),
    IdxImages(
        name="fashion-mnist",
        title="articles of clothing, 28x28 grey (Zalando Research)",
        folder="FashionMNIST",
        classes=tuple(_CLOTHES.split(",")),
        mean=0.2860,
        std=0.3530,
        origin="https://github.com/zalandoresearch/fashion-mnist",
        remotes=_remotes(_FASHION_HOME, "FashionMNIST", _FASHION_SUMS),
        checksums=_FASHION_SUMS,
    ),
)
