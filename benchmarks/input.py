"""Images a second through the input pipeline: from folders, from tar shards, from memory.

The images are the made-up photographs of `imagenet-synthetic`, written as JPEG files into folders
of ten, and packed from there into shards. Files that have just been written are in the page cache:
what differs between the sources is the work of finding and opening, not the disk.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from spikeloom.components.augmentations import Flip
from spikeloom.config.data import ImagesConfig
from spikeloom.data.base import Split
from spikeloom.data.images.augment import Transform
from spikeloom.data.images.decode import ImageSplit
from spikeloom.data.loader import Loader
from spikeloom.data.registry import source
from spikeloom.data.sets.imagefolder import ImageFolder
from spikeloom.data.sets.synthetic import SyntheticImages, synthetic_jpegs
from spikeloom.errors import DataError

_FILES = 10  # in a folder
_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def measure(
    images: int, batch: int, workers: int, size: int, rounds: int
) -> list[dict[str, object]]:
    """A row for each source: the best of `rounds` epochs over `images` samples.

    Sources take turns. `part` says what was measured: "batches" are what a training gets, flipped
    and normalised, on the wall's clock; "bytes" are the files alone, "pixels" decoded and cut, both
    in this process and its own time: what an idle core would do.
    """
    if images < 2 * batch:
        raise DataError(f"{images} images in batches of {batch}: give two batches or more")
    with tempfile.TemporaryDirectory(prefix="spikeloom-input-") as folder:
        splits = _sources(Path(folder), images, ImagesConfig(size=size, shorter_side=size * 8 // 7))
        rows: list[dict[str, object]] = []
        for part, run in _parts(batch, workers).items():
            best = dict.fromkeys(splits, float("inf"))
            for _ in range(rounds):
                for name, split in splits.items():
                    best[name] = min(best[name], run(split))
            rows += [
                {
                    "source": name,
                    "part": part,
                    "workers": workers if part == "batches" else 0,
                    "batch": batch,
                    "size": size,
                    "images_per_second": round(1 / seconds, 1),
                    "ms_per_image": round(1000 * seconds, 3),
                }
                for name, seconds in best.items()
            ]
        return rows


def pixels_per_second(size: int = 224, images: int = 100) -> float:
    """Images that one core decodes and cuts in a second."""
    split = SyntheticImages().load(None, ImagesConfig(size=size, shorter_side=size * 8 // 7)).train
    begin = time.process_time()
    assert isinstance(split, ImageSplit)
    split.read_random(torch.arange(images), 0)
    return images / (time.process_time() - begin)


def _sources(folder: Path, images: int, config: ImagesConfig) -> dict[str, ImageSplit]:
    files = synthetic_jpegs(16)
    for part, count in (("train", images), ("val", _FILES)):
        for number in range(count):
            place = folder / "folder" / part / f"{number // _FILES:05d}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number}.jpg").write_bytes(files[number % len(files)])
    # Both need the same classes.
    for place in (folder / "folder" / "train").iterdir():
        (folder / "folder" / "val" / place.name).mkdir(exist_ok=True)
        (folder / "folder" / "val" / place.name / "0.jpg").write_bytes(files[0])
    images_in_folders = source("imagefolder")
    assert isinstance(images_in_folders, ImageFolder)
    images_in_folders.make_shards(
        folder / "folder", folder / "shards", 256 << 20, lambda split, done, total: None
    )
    found: dict[str, Split] = {
        "folder": images_in_folders.load(folder / "folder", config).train,
        "shards": images_in_folders.load(folder / "shards", config).train,
        "synthetic": SyntheticImages().load(None, config).train,
    }
    return {name: _first(split, images) for name, split in found.items()}


def _first(split: Split, count: int) -> ImageSplit:
    assert isinstance(split, ImageSplit)
    return ImageSplit(split.labels[:count], split.images, split.files)


def _parts(batch: int, workers: int) -> dict[str, Callable[[ImageSplit], float]]:
    def contents(split: ImageSplit) -> float:
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0)).tolist()
        begin = time.process_time()
        for index in order:
            split.files.read(index)
        return (time.process_time() - begin) / len(order)

    def pixels(split: ImageSplit) -> float:
        begin = time.process_time()
        split.read_random(torch.arange(batch), 0)
        return (time.process_time() - begin) / batch

    def batches(split: ImageSplit) -> float:
        loader = Loader(
            split,
            batch,
            shuffle=True,
            drop_last=True,
            transform=Transform((Flip(),), *_STATISTICS),
            workers=workers,
            random_read=True,
        )
        begun, count = 0.0, 0
        for number, one in enumerate(loader.epoch()):
            if number == 0:  # workers have started
                begun = time.perf_counter()
            else:
                count += len(one.targets)
        return (time.perf_counter() - begun) / count

    return {"bytes": contents, "pixels": pixels, "batches": batches}
