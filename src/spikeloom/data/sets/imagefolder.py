"""Images in folders, one folder per class, or in tar shards made of them; ImageNet.

    imagenet/train/<class>/<any name>.JPEG      imagenet/val/<class>/<any name>.JPEG
    imagenet/train/000000.tar ...               imagenet/val/000000.tar ...     imagenet/classes.txt

A folder of one's own (`imagefolder`) may hold the classes themselves; it is divided as
`files.classes` says. Classes are the folders' names in alphabetical order, the same in both; with
shards, the lines of `classes.txt`. Images are decoded when they are read (`images.decode`); the
random numbers come from the loader, so that an epoch is the same with any number of workers, and
from folders as from the shards that `spikeloom data shards` makes of them.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from spikeloom.config.data import DataConfig, ImagesConfig
from spikeloom.data.api import Accept, Source, candidates
from spikeloom.data.base import DataSet, DataSpec, Split, missing_samples, subset
from spikeloom.data.files import shards
from spikeloom.data.files.archive import Entry, hidden, is_archive, scan, unreadable
from spikeloom.data.files.classes import OPTIONS, divided
from spikeloom.data.images.decode import SUFFIXES, ImageSplit, open_image
from spikeloom.errors import DataError

TEST = ("test", "val", "validation", "valid")
"""Names of the folder of test images, the first that holds any."""


@dataclass(frozen=True)
class Files:
    """Each a file on the disk or in an archive."""

    paths: Sequence[Path | Entry]

    def read(self, index: int) -> bytes:
        try:
            return self.paths[index].read_bytes()
        except OSError as error:
            raise unreadable(self.paths[index], error) from error

    def name(self, index: int) -> str:
        return str(self.paths[index])


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Source):
    """A data set in the layout above. Without published numbers it takes what it finds.

    folders  names of its folder; test: names of the folder of test images in it
    """

    name: str
    title: str
    folders: tuple[str, ...]
    layout: str
    published: Mapping[str, int]
    origin: str
    test: tuple[str, ...] = TEST
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    sections = ("images",)
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def load(
        self,
        root: Path | None = None,
        images: ImagesConfig | None = None,
        options: Mapping[str, str] | None = None,
        skip_damaged: bool = False,
    ) -> DataSet:
        """List both splits, or read the indices of their shards.

        `images` says how large images are cut (None: 224 x 224).
        """
        images = images or ImagesConfig()
        chosen = self.choices(options)
        places = self.files(root)
        notes: list[str] = []
        if len(places) == 1:
            sides = divided(scan(places[0]), SUFFIXES, chosen, str(places[0]))
            classes, notes = list(sides.names), list(sides.notes)
            both = [
                ([label for _, label in side], Files([entry for entry, _ in side]))
                for side in (sides.train, sides.test)
            ]
        elif shards.shard_files(places[0]):
            classes, both = _packed(places[0], places[1])
        else:
            classes = class_folders(places[0])
            if (others := class_folders(places[1])) != classes:
                odd = sorted(set(classes) ^ set(others))[0]
                raise DataError(
                    f"{places[0]} has {len(classes)} class folders and {places[1]} has "
                    f"{len(others)}, {odd!r} in only one of them: give both the same"
                )
            notes = _left_out(places[1])
            listed = [_listed(folder, classes, notes) for folder in places]
            both = [(labels, Files(paths)) for labels, paths in listed]
        train, test = (ImageSplit(labels, images, files) for labels, files in both)
        if skip_damaged:
            train, test = (_sound(split, notes) for split in (train, test))
        spec = DataSpec(self.name, (3, images.size, images.size), tuple(classes))
        notes += missing_samples(self.name, self.published, train, test)
        return DataSet(spec, train, test, self.mean, self.std, tuple(notes))

    def for_recipe(
        self, config: DataConfig, T: int | None, accept: Accept | None = None
    ) -> DataSet:
        root = None if config.root is None else Path(config.root)
        return self.load(root, config.images, config.options, config.skip_damaged)

    def make_shards(
        self,
        root: Path | None,
        target: Path,
        shard_bytes: int,
        show: Callable[[str, int, int], None],
    ) -> DataSet:
        """Files are taken over as they are, in the order of the folders: training on either is
        the same, bit for bit."""
        folders = self.files(root)
        if len(folders) == 1 or shards.shard_files(folders[0]):
            raise DataError(f"{folders[0]}: shards are made of folders train/ and val/ of images")
        classes = class_folders(folders[0])
        for folder, place in zip(("train", "val"), folders, strict=True):
            labels, paths = _listed(place, classes)
            contents = map(Files(paths).read, range(len(paths)))
            suffixes = (path.suffix.lower() for path in paths)
            samples = zip(contents, suffixes, labels, strict=True)
            shards.write_shards(
                target / folder,
                samples,
                shard_bytes,
                lambda count, folder=folder, labels=labels: show(folder, count, len(labels)),
            )
        (target / shards.CLASSES).write_text("".join(f"{name}\n" for name in classes), "utf-8")
        return self.load(target)

    def files(self, root: Path | None) -> tuple[Path, ...]:
        """The two folders, or the one of images that are not divided; images are too many."""
        looked_for = []
        bases = candidates(root, self.folders)
        for base in bases:
            for test in self.test:
                if (base / "train").is_dir() and _holds_samples(base / test):
                    return base / "train", base / test
            looked_for.append(base / "train")
        for base in bases:
            if not self.options or not base.exists() or (base / "train").is_dir():
                continue
            if is_archive(base) or (base.is_dir() and _holds_samples(base)):
                return (base,)
        raise self.missing(looked_for)

    def describe(self, data: DataSet) -> str:
        return (
            f"{self.name}: {len(data.train):,} + {len(data.test):,} images of "
            f"{data.spec.class_count} classes found; they are decoded when they are read "
            "(`spikeloom data shards` packs many files into a few)"
        )


def class_folders(folder: Path) -> list[str]:
    """Names of the folders in `folder`, sorted."""
    names = sorted(
        entry.name for entry in os.scandir(folder) if entry.is_dir() and not hidden(entry.name)
    )
    if not names:
        raise DataError(f"{folder} holds no folders: expected one folder of images per class")
    return names


def _holds_samples(folder: Path) -> bool:
    """Whether there are class folders or shards; ImageNet's own test folder has images only."""
    return folder.is_dir() and any(
        (entry.is_dir() and not hidden(entry.name)) or entry.name.endswith(".tar")
        for entry in list(os.scandir(folder))
    )


def _sound(split: ImageSplit, notes: list[str]) -> Split:
    """The images of `split` that can be decoded; the others are told."""
    damaged = []
    for index in range(len(split)):
        try:
            open_image(split.files.read(index), split.files.name(index), lambda image: image)
        except DataError:
            damaged.append(index)
    if not damaged:
        return split
    shown = ", ".join(split.files.name(index) for index in damaged[:5])
    notes.append(f"{len(damaged):,} damaged images are left out ({shown})")
    kept = torch.ones(len(split), dtype=torch.bool)
    kept[damaged] = False
    return subset(split, torch.nonzero(kept).flatten())


def _left_out(test: Path) -> list[str]:
    """A note for a third folder beside the two."""
    others = [test.parent / name for name in TEST if name != test.name]
    return [
        f"{place} is not read: {test.name}/ is the test set, and protocol B takes its validation "
        "samples from train/"
        for place in others
        if _holds_samples(place)
    ]


def _packed(train: Path, test: Path) -> tuple[list[str], list[tuple[list[int], shards.Reader]]]:
    """Class names, and labels and images of both splits."""
    packed = [shards.open_shards(folder, SUFFIXES) for folder in (train, test)]
    count = 1 + max(int(split.labels.max()) for split in packed)
    listing = train.parent / shards.CLASSES
    if listing.is_file():
        classes = listing.read_text("utf-8-sig", "replace").splitlines()
    else:  # shards of another origin: labels are all that is known
        classes = [str(label) for label in range(count)]
    if count > len(classes):
        raise DataError(
            f"{train.parent}: a label is {count - 1}, and {listing} names {len(classes)} classes: "
            "give shards and names that belong together"
        )
    return classes, [(split.labels.tolist(), shards.Reader(split)) for split in packed]


def _listed(
    folder: Path, classes: list[str], notes: list[str] | None = None
) -> tuple[list[int], list[Path]]:
    """Labels and images of every class; a note for folders inside them."""
    paths: list[Path] = []
    labels: list[int] = []
    inner: list[str] = []
    for label, name in enumerate(classes):
        entries = [*os.scandir(folder / name)]
        inner += [f"{name}/{e.name}" for e in entries if e.is_dir() and not hidden(e.name)]
        names = sorted(
            entry.name
            for entry in entries
            if entry.name.lower().endswith(SUFFIXES)
            and not hidden(entry.name)
            and os.path.exists(entry.path)
        )
        if not names:
            raise DataError(
                f"{folder / name} holds no images: expected files that end in {', '.join(SUFFIXES)}"
            )
        paths += [folder / name / file for file in names]
        labels += [label] * len(names)
    if inner and notes is not None:
        notes.append(f"folders inside class folders of {folder} are not read ({inner[0]})")
    return labels, paths


DATA_SETS = (
    ImageFolder(
        name="imagenet",
        title="ImageNet (ILSVRC 2012), photographs in 1,000 classes",
        folders=("imagenet", "ImageNet", "ILSVRC2012"),
        layout="imagenet/\n    train/<class>/*.jpeg\n    val/<class>/*.jpeg",
        published={"train": 1_281_167, "test": 50_000},
        origin="https://image-net.org (validation images sorted into class folders)",
        test=("val", "validation"),
    ),
    ImageFolder(
        name="imagefolder",
        title="images of your own, one folder per class",
        folders=("imagefolder",),
        layout="imagefolder/\n    train/<class>/*.jpeg\n    val/<class>/*.jpeg",
        published={"train": 0, "test": 0},
        origin="wherever they are: data.root names the folder that holds train and val, or classes",
        options=OPTIONS,
    ),
)
