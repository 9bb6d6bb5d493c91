"""CIFAR-10 and CIFAR-100 from the publisher's files: Python or binary version, archive or folder.

    CIFAR10/cifar-10-python.tar.gz    or  cifar-10-batches-py/   data_batch_1 .. 5, test_batch
            cifar-10-binary.tar.gz    or  cifar-10-batches-bin/  data_batch_1.bin .. 5.bin, ...
    CIFAR100/cifar-100-python.tar.gz  or  cifar-100-python/      train, test
             cifar-100-binary.tar.gz  or  cifar-100-binary/      train.bin, test.bin

A Python file is a pickled dictionary with `data` (unsigned bytes `[n, 3072]`) and `labels`, or
`fine_labels` in CIFAR-100. A binary file is a row of records: the label (CIFAR-100: the coarse
one, then the fine one), then 3072 bytes. An image is 1024 red bytes, 1024 green, 1024 blue, row by
row. An archive is read as a stream: nothing is unpacked to the disk.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from spikeloom.data.api import Remote, Source, candidates
from spikeloom.data.base import DataSet, DataSpec, TensorSplit, missing_samples
from spikeloom.data.files.archive import read_members, unreadable
from spikeloom.data.files.pickles import read_pickle
from spikeloom.errors import DataError

_IMAGE = (3, 32, 32)
_BYTES = 3 * 32 * 32
_HOME = "https://www.cs.toronto.edu/~kriz"

_Batch = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


class _Form(NamedTuple):
    """One way in which the publisher packs the set: files inside `folder`, the last one to test."""

    folder: str
    archive: str
    files: tuple[str, ...]
    binary: bool


@dataclass(frozen=True, kw_only=True)
class Cifar(Source):
    """A data set of 32x32 colour images in one of CIFAR's forms.

    label_key    of a Python file; label_bytes of a binary record, the last of them counts
    """

    name: str
    title: str
    folder: str
    forms: tuple[_Form, ...]
    label_key: str
    label_bytes: int
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    remotes: tuple[Remote, ...]
    checksums: Mapping[str, str] = field(default_factory=dict)

    published = {"train": 50_000, "test": 10_000}
    origin = f"{_HOME}/cifar.html"

    def load(self, root: Path | None = None) -> DataSet:
        form, place = self._find(root)
        batches = {
            file: self._decode(form, f"{place}/{file}", content)
            for file, content in self._read(form, place)
        }
        train, test = (
            TensorSplit(
                torch.from_numpy(np.concatenate([batches[file][0] for file in files])),
                torch.from_numpy(np.concatenate([batches[file][1] for file in files])),
            )
            for files in (form.files[:-1], form.files[-1:])
        )
        spec = DataSpec(self.name, _IMAGE, self.classes)
        notes = missing_samples(self.name, self.published, train, test)
        return DataSet(spec, train, test, self.mean, self.std, notes)

    def files(self, root: Path | None) -> tuple[Path, ...]:
        form, place = self._find(root)
        return tuple(place / file for file in form.files) if place.is_dir() else (place,)

    def _find(self, root: Path | None) -> tuple[_Form, Path]:
        """The first form that is there, and its folder or archive."""
        looked_for: list[Path] = []
        for base in candidates(root, (self.folder, "")):
            for form in self.forms:
                for place in (base / form.folder, base / form.archive):
                    if place.exists():
                        return form, place
                    looked_for.append(place)
                if any((base / file).is_file() for file in form.files):
                    return form, base
        tree = f"{self.folder}/\n" + "\n".join(
            f"    {form.archive}   or   {form.folder}/{{{', '.join(form.files)}}}"
            for form in self.forms
        )
        raise self.missing(looked_for, tree)

    def _read(self, form: _Form, place: Path) -> Iterator[tuple[str, bytes]]:
        """Name and content of every file of `form`."""
        if not place.is_dir():
            for member, content in read_members(place, [f"{form.folder}/{f}" for f in form.files]):
                yield member.removeprefix(f"{form.folder}/"), content
            return
        for file in form.files:
            try:
                yield file, (place / file).read_bytes()
            except FileNotFoundError as error:
                raise DataError(
                    f"{place / file}: missing, though {form.folder} is there: unpack "
                    f"{form.archive} again"
                ) from error
            except OSError as error:
                raise unreadable(place / file, error) from error

    def _decode(self, form: _Form, name: str, content: bytes) -> _Batch:
        """Images uint8 `[n, 3, 32, 32]` and labels int64 `[n]` of one file, called `name`."""
        decode = self._decode_binary if form.binary else self._decode_python
        images, labels = decode(name, content)
        if not len(images):
            raise DataError(f"{name}: holds no records: fetch the file again")
        wrong = np.flatnonzero((labels < 0) | (labels >= len(self.classes)))
        if len(wrong):
            raise DataError(
                f"{name}: record {wrong[0]:,}: label {labels[wrong[0]]}, expected "
                f"0..{len(self.classes) - 1}: fetch the file again"
            )
        return images.reshape(-1, *_IMAGE), labels

    def _decode_binary(self, name: str, content: bytes) -> _Batch:
        size = self.label_bytes + _BYTES
        if len(content) % size:
            raise DataError(
                f"{name}: record {len(content) // size:,} is cut short: {len(content):,} bytes are "
                f"not a multiple of {size:,}: fetch the file again"
            )
        records = np.frombuffer(content, dtype=np.uint8).reshape(-1, size)
        return records[:, self.label_bytes :], records[:, self.label_bytes - 1].astype(np.int64)

    def _decode_python(self, name: str, content: bytes) -> _Batch:
        batch = read_pickle(content, name)
        fields = batch if isinstance(batch, dict) else {}
        # Keys are bytes if Python 2 wrote them, else texts.
        data, labels = (
            fields.get(key.encode(), fields.get(key)) for key in ("data", self.label_key)
        )
        row = (_BYTES,)
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != row:
            raise DataError(
                f"{name}: entry 'data' is not an array of unsigned bytes [n, {_BYTES}]: "
                "fetch the file again"
            )
        try:
            numbers = np.asarray(labels)
        except (ValueError, TypeError, OverflowError):
            numbers = np.empty(0, object)
        if numbers.shape != (len(data),) or numbers.dtype.kind not in "iu":
            raise DataError(
                f"{name}: entry {self.label_key!r} is not a list of {len(data):,} labels: "
                "fetch the file again"
            )
        return data, numbers.astype(np.int64)


def _cifar10(suffix: str) -> tuple[str, ...]:
    return *(f"data_batch_{part}{suffix}" for part in range(1, 6)), f"test_batch{suffix}"


_CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"

_CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""


def _archive(folder: str, name: str, sums: Mapping[str, str]) -> tuple[Remote, ...]:
    return (Remote(f"{_HOME}/{name}", f"{folder}/{name}", f"md5:{sums[name]}"),)


_SUMS_10 = {
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}

_SUMS_100 = {
    "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
    "cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8",
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
}

DATA_SETS = (
    Cifar(
        name="cifar10",
        title="objects and animals in 10 classes, 32x32 colour (Krizhevsky)",
        folder="CIFAR10",
        forms=(
            _Form("cifar-10-batches-py", "cifar-10-python.tar.gz", _cifar10(""), binary=False),
            _Form("cifar-10-batches-bin", "cifar-10-binary.tar.gz", _cifar10(".bin"), binary=True),
        ),
        label_key="labels",
        label_bytes=1,
        classes=tuple(_CIFAR10_CLASSES.split()),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        remotes=_archive("CIFAR10", "cifar-10-python.tar.gz", _SUMS_10),
        checksums=_SUMS_10,
    ),
    Cifar(
        name="cifar100",
        title="objects and animals in 100 classes, 32x32 colour (Krizhevsky)",
        folder="CIFAR100",
        forms=(
            _Form("cifar-100-python", "cifar-100-python.tar.gz", ("train", "test"), False),
            _Form("cifar-100-binary", "cifar-100-binary.tar.gz", ("train.bin", "test.bin"), True),
        ),
        label_key="fine_labels",
        label_bytes=2,
        classes=tuple(_CIFAR100_CLASSES.split()),
        mean=(0.5071, 0.4867, 0.4408),
        std=(0.2675, 0.2565, 0.2761),
        remotes=_archive("CIFAR100", "cifar-100-python.tar.gz", _SUMS_100),
        checksums=_SUMS_100,
    ),
)
