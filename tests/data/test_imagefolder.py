"""Images in folders: the layout, the cuts, their random numbers, and damaged files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spikeloom.config.data import ImagesConfig
from spikeloom.data import registry
from spikeloom.data.base import DataSet, subset
from spikeloom.data.images.decode import ImageSplit, random_box
from spikeloom.data.loader import Loader
from spikeloom.data.sets.imagefolder import DATA_SETS
from spikeloom.errors import DataError

SOURCE = next(source for source in DATA_SETS if source.name == "imagefolder")
SMALL = ImagesConfig(size=8, shorter_side=10, scale=(0.2, 1.0))
SIZES = ((20, 12), (9, 30), (16, 16))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of three sizes for each of two classes; one is grey, one has a palette."""
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for i, (width, height) in enumerate(SIZES):
                pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
                image = Image.fromarray(pixels)
                if i == 1:
                    image = image.convert("L" if label else "P")
                image.save(tmp_path / split / name / f"{i}.png")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    return tmp_path


def _load(folder: Path) -> DataSet:
    return SOURCE.load(folder, SMALL)


def test_classes_are_folders_in_alphabetical_order(folder: Path) -> None:
    data = _load(folder)
    assert data.spec.classes == ("cat", "dog")
    assert data.spec.shape == (3, 8, 8)
    assert data.train.labels.tolist() == data.test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert {"imagefolder", "imagenet"} <= set(registry.names())


def test_the_centre_is_what_pillow_cuts(folder: Path) -> None:
    data = _load(folder)
    got = data.test.read(torch.arange(6))
    assert got.shape == (6, 3, 8, 8) and got.dtype == torch.uint8
    # 20x12 -> 16x10 (the shorter side is 10), then the central 8x8.
    image = Image.open(folder / "val" / "cat" / "0.png").convert("RGB")
    resized = image.resize((16, 10), Image.Resampling.BILINEAR).crop((4, 1, 12, 9))
    assert np.array_equal(got[0].permute(1, 2, 0).numpy(), np.asarray(resized))


def test_random_boxes_lie_inside_and_have_the_asked_area() -> None:
    generator = np.random.default_rng(1)
    areas, ratios = [], []
    for _ in range(2000):
        left, top, right, bottom = random_box((300, 200), SMALL, generator)
        assert 0 <= left < right <= 300 and 0 <= top < bottom <= 200
        areas.append((right - left) * (bottom - top) / (300 * 200))
        ratios.append((right - left) / (bottom - top))
    # Nothing wider than 4:3 is cut, so the whole of a 3:2 image never is.
    assert 0.19 < min(areas) < 0.25 and 0.85 < max(areas) <= 8 / 9
    assert 0.72 < min(ratios) < 0.78 and 1.3 < max(ratios) < 1.36


def test_an_image_too_narrow_for_any_draw_gives_its_middle() -> None:
    box = random_box((10, 1000), ImagesConfig(scale=(0.9, 1.0)), np.random.default_rng(2))
    assert box == (0, 493, 10, 506)  # 10 wide, 13 = 10 / (3/4) high


@pytest.mark.parametrize("workers", [0, 2])
def test_random_cuts_are_a_function_of_seed_epoch_and_step(folder: Path, workers: int) -> None:
    data = _load(folder)

    def loader(workers: int) -> Loader:
        return Loader(
            data.train, 2, shuffle=True, seed_names=(5, "train"), workers=workers, random_read=True
        )

    whole = [batch.inputs for batch in loader(0).epoch(3)]
    again = [batch.inputs for batch in loader(workers).epoch(3, start_step=1)]
    assert all(torch.equal(a, b) for a, b in zip(whole[1:], again, strict=True))
    other = [batch.inputs for batch in loader(0).epoch(4)]
    assert not all(torch.equal(a, b) for a, b in zip(whole, other, strict=True))


def test_without_random_reading_the_loader_gives_centres(folder: Path) -> None:
    data = _load(folder)
    batch = next(iter(Loader(data.train, 6, seed_names=(0,)).epoch()))
    assert torch.equal(batch.inputs, data.train.read(torch.arange(6)))


def test_a_subset_cuts_at_random_too(folder: Path) -> None:
    data = _load(folder)
    assert isinstance(data.train, ImageSplit)
    part = subset(data.train, torch.tensor([4, 2]))
    loader = Loader(part, 2, seed_names=(1,), random_read=True)
    first = next(iter(loader.epoch(0))).inputs
    assert not torch.equal(first, part.read(torch.arange(2)))


def test_a_damaged_image_is_named(folder: Path) -> None:
    path = folder / "train" / "dog" / "0.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"dog/0\.png: cannot be decoded"):
        _load(folder).train.read(torch.tensor([3]))
    loader = Loader(_load(folder).train, 6, seed_names=(0,), workers=1, random_read=True)
    with pytest.raises(DataError, match=r"dog/0\.png"):
        list(loader.epoch())


def test_folders_inside_class_folders_are_told(folder: Path) -> None:
    (folder / "train" / "cat" / "more").mkdir()
    (note,) = _load(folder).notes
    assert note == f"folders inside class folders of {folder / 'train'} are not read (cat/more)"


def test_missing_and_unequal_folders_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)no files found.*train/<class>"):
        SOURCE.load(tmp_path / "nowhere", SMALL)
    (folder / "val" / "emu").mkdir()
    with pytest.raises(DataError, match="'emu' in only one of them"):
        _load(folder)
    (folder / "train" / "emu").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        _load(folder)


def test_size_beyond_the_resized_image_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter_side = 100 is below size = 224"):
        ImagesConfig(shorter_side=100)
