"""Images in folders, one folder per class, or in tar shards made of them; ImageNet.

    imagenet/train/<class>/<any name>.JPEG      imagenet/val/<class>/<any name>.JPEG
    imagenet/train/000000.tar ...               imagenet/val/000000.tar ...     imagenet/classes.txt

Classes are the folders' names in alphabetical order, the same in both; with shards, the lines of
`classes.txt`. Images are decoded when they are read (`data.images`); the random numbers come from
the loader, so that an epoch is the same with any number of workers, and from folders as from the
shards that `spikeloom data shards` makes of them.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from spikeloom.config.data import ImagesConfig
from spikeloom.data.base import DataSet
from spikeloom.data.files import shards
from spikeloom.data.files.places import candidates, missing, unreadable
from spikeloom.data.images import SUFFIXES, ImageSource, ImageSplit
from spikeloom.data.spec import DataSpec
from spikeloom.errors import DataError

VALIDATION = ("val", "validation", "test")


class FolderSplit(ImageSplit):
    """The images of one split, each a file."""

    def __init__(self, files: list[Path], labels: list[int], images: ImagesConfig) -> None:
        super().__init__(torch.tensor(labels, dtype=torch.int64), images)
        self.files = files

    def content(self, index: int) -> bytes:
        try:
            return self.files[index].read_bytes()
        except OSError as error:
            raise unreadable(self.files[index], error) from error

    def name(self, index: int) -> str:
        return str(self.files[index])


class ShardSplit(ImageSplit):
    """The images of one split, in tar shards."""

    def __init__(self, found: shards.Shards, images: ImagesConfig) -> None:
        super().__init__(torch.from_numpy(found.labels.copy()), images)
        self._reader = shards.Reader(found)

    def content(self, index: int) -> bytes:
        return self._reader.read(index)

    def name(self, index: int) -> str:
        return self._reader.name(index)


class ImageFolder(ImageSource):
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
        """List both splits, or read the indices of their shards."""
        images = images or ImagesConfig()
        train, test = self._find(root)
        if shards.shard_files(train):
            classes, splits = _shard_splits(train, test, images)
            return self._data_set(classes, splits, images)
        classes = _classes(train)
        if (others := _classes(test)) != classes:
            odd = sorted(set(classes) ^ set(others))[0]
            raise DataError(
                f"{train} has {len(classes)} class folders and {test} has {len(others)}, "
                f"{odd!r} in only one of them: give both the same"
            )
        splits = [_split(folder, classes, images) for folder in (train, test)]
        return self._data_set(classes, splits, images)

    def _data_set(
        self, classes: list[str], splits: list[ImageSplit], images: ImagesConfig
    ) -> DataSet:
        spec = DataSpec(self.name, (3, images.size, images.size), tuple(classes))
        train, test = splits
        return DataSet(spec, train, test, self._mean, self._std, self.missing_samples(train, test))

    def make_shards(
        self,
        root: Path | None,
        target: Path,
        shard_bytes: int,
        show: Callable[[str, int, int], None],
    ) -> DataSet:
        """Writes both splits as shards into the folder `target`, and reads them back.

        `show(split, done, total)` is told how far it is. Files are taken over as they are, in the
        order of the folders: training on either is the same, bit for bit.
        """
        train, _ = self._find(root)
        if shards.shard_files(train):
            raise DataError(f"{train} holds shards already: nothing to make")
        data = self.load(root)
        for folder, split in (("train", data.train), ("val", data.test)):
            assert isinstance(split, FolderSplit)
            shards.write_shards(
                target / folder,
                _files(split),
                shard_bytes,
                lambda count, folder=folder, split=split: show(folder, count, len(split)),
            )
        names = "".join(f"{name}\n" for name in data.spec.classes)
        (target / shards.CLASSES).write_text(names, "utf-8")
        return self.load(target)

    def files(self, root: Path | None) -> tuple[Path, ...]:
        """The two folders; the images in them are too many to be listed."""
        return self._find(root)

    def prepare(self, root: Path | None) -> str:
        data = self.load(root)
        return (
            f"{self.name}: {len(data.train):,} + {len(data.test):,} images of "
            f"{data.spec.class_count} classes found; they are decoded when they are read "
            "(`spikeloom data shards` packs many files into a few)"
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


def _shard_splits(
    train: Path, test: Path, images: ImagesConfig
) -> tuple[list[str], list[ImageSplit]]:
    found = [shards.open_shards(folder, SUFFIXES) for folder in (train, test)]
    count = 1 + max(int(one.labels.max()) for one in found)
    listing = train.parent / shards.CLASSES
    if listing.is_file():
        classes = listing.read_text("utf-8", "replace").splitlines()
    else:  # shards of another origin: labels are all that is known
        classes = [str(label) for label in range(count)]
    if count > len(classes):
        raise DataError(
            f"{train.parent}: a label is {count - 1}, and {listing} names {len(classes)} classes: "
            "give shards and names that belong together"
        )
    return classes, [ShardSplit(one, images) for one in found]


def _files(split: FolderSplit) -> Iterator[tuple[bytes, str, int]]:
    for index, (path, label) in enumerate(zip(split.files, split.labels.tolist(), strict=True)):
        yield split.content(index), path.suffix.lower(), label


def _split(folder: Path, classes: list[str], images: ImagesConfig) -> ImageSplit:
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
