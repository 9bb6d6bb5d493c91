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
"""

import gzip
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt
import torch

from spikeloom.data.base import DataSet, Source, TensorSplit
from spikeloom.data.files.places import candidates, missing, unreadable
from spikeloom.data.spec import DataSpec
from spikeloom.errors import DataError

_UNSIGNED_BYTES = 0x08
_SIZE = (28, 28)
_CHUNK = 1 << 16


def read_idx(path: Path, shape: tuple[int, ...], most: int) -> npt.NDArray[np.uint8]:
    """The values of an IDX file of unsigned bytes, uint8 `[N, *shape]`; a `.gz` is unpacked.

    Raises `DataError` unless the file has this many axes of these lengths, 1 to `most` records, and
    exactly the bytes that its header announces. The header is checked before memory is taken.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as packed:
                return _read(path, cast(BinaryIO, packed), None, shape, most)
        with path.open("rb") as plain:
            return _read(path, plain, path.stat().st_size, shape, most)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from error


def _read(
    path: Path, file: BinaryIO, size: int | None, shape: tuple[int, ...], most: int
) -> npt.NDArray[np.uint8]:
    """`size` is that of the unpacked file where it is known beforehand."""
    axes = 1 + len(shape)
    header = file.read(4 + 4 * axes)
    magic = bytes([0, 0, _UNSIGNED_BYTES, axes])
    if header[:4] != magic:
        raise DataError(
            f"{path}: byte 0: magic is 0x{header[:4].hex() or '(nothing)'}, expected "
            f"0x{magic.hex()} (unsigned bytes, {axes} axes): fetch the file again"
        )
    if len(header) < 4 + 4 * axes:
        raise DataError(
            f"{path}: byte {len(header)}: the file ends inside its header of {4 + 4 * axes} bytes: "
            "fetch it again"
        )
    count, *lengths = struct.unpack(f">{axes}I", header[4:])
    if tuple(lengths) != shape:
        raise DataError(
            f"{path}: byte 8: records of {_by(lengths)} values, expected {_by(shape)}: "
            "this is another data set's file, or fetch it again"
        )
    if not 1 <= count <= most:
        raise DataError(
            f"{path}: byte 4: the header says {count:,} records, expected 1 to {most:,}: "
            "fetch the file again"
        )
    expected = count * math.prod(shape)
    if size is None:
        # One byte more than needed, so that bytes after the end are seen.
        values = _up_to(expected + 1, file)
        actual = len(values)
    else:
        actual = size - len(header)
        values = _up_to(expected, file) if actual == expected else b""
    if actual != expected or len(values) != expected:
        found = "bytes go on after" if actual > expected else f"only {actual:,} bytes of"
        raise DataError(
            f"{path}: byte {len(header) + min(actual, expected):,}: {found} the {expected:,} that "
            f"{count:,} records need: fetch the file again"
        )
    return np.frombuffer(values, dtype=np.uint8).reshape(count, *shape)


def _up_to(count: int, file: BinaryIO) -> bytearray:
    """At most `count` bytes; the memory grows with what is there, not with what a header says."""
    values = bytearray()
    while chunk := file.read(min(_CHUNK, count - len(values))):
        values += chunk
    return values


def _by(lengths: tuple[int, ...] | list[int]) -> str:
    return "x".join(map(str, lengths)) or "1"


class IdxImages(Source):
    """A data set of 28x28 grey images in four IDX files."""

    published = {"train": 60_000, "test": 10_000}

    def __init__(
        self,
        name: str,
        title: str,
        *,
        folder: str,
        classes: tuple[str, ...],
        mean: float,
        std: float,
        origin: str,
        checksums: Mapping[str, str],
    ) -> None:
        self.name = name
        self.title = title
        self._folder = folder
        self._classes = classes
        self._mean = mean
        self._std = std
        self._origin = origin
        self.checksums = checksums

    def load(self, root: Path | None) -> DataSet:
        train_images, train_labels, test_images, test_labels = self.files(root)
        train = self._split(train_images, train_labels, self.published["train"])
        test = self._split(test_images, test_labels, self.published["test"])
        spec = DataSpec(self.name, (1, *_SIZE), self._classes)
        notes = self.missing_samples(train, test)
        return DataSet(spec, train, test, (self._mean,), (self._std,), notes)

    def files(self, root: Path | None) -> tuple[Path, ...]:
        """Images and labels for training, then for testing, all from one folder."""
        stems = [
            f"{split}-{kind}-ubyte"
            for split in ("train", "t10k")
            for kind in ("images-idx3", "labels-idx1")
        ]
        places = [
            base / layout
            for base in candidates(root, (self._folder,))
            for layout in ("", "raw", f"{self._folder}/raw")
        ]
        for place in places:
            found = [_plain_or_packed(place / stem) for stem in stems]
            if not any(found):
                continue
            for stem, path in zip(stems, found, strict=True):
                if path is None:
                    raise DataError(
                        f"{place / stem}: missing, and no {stem}.gz either, though other files of "
                        f"{self.name} are there: get it from {self._origin}"
                    )
            return tuple(path for path in found if path is not None)
        tree = f"{self._folder}/   (or {self._folder}/raw/)\n" + "\n".join(
            f"    {stem}[.gz]" for stem in stems
        )
        raise missing(self.name, [place / stems[0] for place in places], tree, self._origin)

    def _split(self, images_path: Path, labels_path: Path, most: int) -> TensorSplit:
        images = read_idx(images_path, _SIZE, most)
        labels = read_idx(labels_path, (), most)
        if len(images) != len(labels):
            raise DataError(
                f"{labels_path}: byte 4: {len(labels):,} labels for the {len(images):,} images of "
                f"{images_path.name}: fetch both files again"
            )
        wrong = np.flatnonzero(labels >= len(self._classes))
        if len(wrong):
            raise DataError(
                f"{labels_path}: byte {8 + wrong[0]:,}: label {labels[wrong[0]]} of sample "
                f"{wrong[0]:,}, expected 0..{len(self._classes) - 1}: fetch the file again"
            )
        return TensorSplit(torch.from_numpy(images[:, None]), torch.from_numpy(labels))


def _plain_or_packed(path: Path) -> Path | None:
    packed = path.with_name(path.name + ".gz")
    return path if path.is_file() else packed if packed.is_file() else None


DATA_SETS = (
    IdxImages(
        "mnist",
        "handwritten digits, 28x28 grey (LeCun, Cortes)",
        folder="MNIST",
        classes=tuple(str(digit) for digit in range(10)),
        mean=0.1307,
        std=0.3081,
        origin="https://ossci-datasets.s3.amazonaws.com/mnist/",
        checksums={
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    IdxImages(
        "fashion-mnist",
        "articles of clothing, 28x28 grey (Zalando Research)",
        folder="FashionMNIST",
        classes=(
            "T-shirt/top",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
        mean=0.2860,
        std=0.3530,
        origin="https://github.com/zalandoresearch/fashion-mnist",
        checksums={
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
)
