"""AutoAugment and Cutout: the published numbers, Pillow's pixels, the generator's randomness."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from spikeloom.components.augmentations import AutoAugment, Cutout
from spikeloom.data.images import autoaugment as module
from spikeloom.data.images.augment import augment
from spikeloom.data.images.autoaugment import apply, policy
from spikeloom.errors import ConfigError
from spikeloom.methods.catalog import load_recipe

POLICIES = ("cifar10", "imagenet", "svhn")
SIGNED = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"} | {
    *("Brightness", "Color", "Contrast", "Sharpness"),
}
UNSIGNED = {"Posterize", "Solarize", "AutoContrast", "Equalize", "Invert"}


def _colour(height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def changed(pixels: np.ndarray, name: str, level: int, sign: int = 1, fill: int = 128):
    return np.asarray(apply(Image.fromarray(pixels), name, level, sign, fill))


@pytest.mark.parametrize("name", POLICIES)
def test_policies_are_25_pairs_of_known_changes(name: module.Policy) -> None:
    pairs = policy(name)
    assert len(pairs) == 25
    for change in (change for pair in pairs for change in pair):
        assert change.name in SIGNED | UNSIGNED
        assert 0 <= change.probability <= 1 and 0 <= change.level <= 9


def test_rows_of_the_published_tables() -> None:
    assert policy("cifar10")[1] == (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9))
    assert policy("cifar10")[24] == (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 0))
    assert policy("imagenet")[0] == (("Posterize", 0.4, 8), ("Rotate", 0.6, 9))
    assert policy("svhn")[22] == (("ShearX", 0.7, 9), ("TranslateY", 0.8, 3))


def test_pairs_probabilities_and_signs_are_drawn_as_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: Counter[tuple[str, int, int]] = Counter()

    def record(image: Image.Image, name: str, level: int, sign: int, fill: int) -> Image.Image:
        seen[name, level, sign] += 1
        assert fill == 7
        return image

    monkeypatch.setattr(module, "apply", record)
    count = 20_000
    images = torch.zeros(count, 1, 2, 2, dtype=torch.uint8)
    augment(images, (AutoAugment(fill=7),), torch.Generator().manual_seed(3))
    expected: Counter[tuple[str, int]] = Counter()
    for pair in policy("cifar10"):
        for change in pair:
            expected[change.name, change.level] += change.probability / 25  # type: ignore[assignment]
    for (name, level), share in expected.items():
        drawn = [seen[name, level, sign] / count for sign in (1, -1)]
        # A share of 0.1 has a standard deviation of 0.0021; five of them.
        assert abs(sum(drawn) - share) < 0.011
        assert abs(drawn[0] - drawn[1]) < 0.011


@pytest.mark.parametrize("sign", [1, -1])
def test_translation_is_in_whole_pixels_up_to_150_of_331_of_the_side(sign: int) -> None:
    pixels = _colour(20, 33)
    shift = int(150 / 331 * 33 * 4 / 9)  # 6
    moved = changed(pixels, "TranslateX", 4, sign, fill=9)
    if sign == 1:
        assert np.array_equal(moved[:, :-shift], pixels[:, shift:])
        assert (moved[:, -shift:] == 9).all()
    else:
        assert np.array_equal(moved[:, shift:], pixels[:, :-shift])
        assert (moved[:, :shift] == 9).all()
    down = changed(pixels, "TranslateY", 9, -1, fill=9)
    assert np.array_equal(down[9:], pixels[:-9]) and (down[:9] == 9).all()


def test_shear_moves_each_row_by_its_height_times_the_level() -> None:
    pixels = _colour(12, 40)
    sheared = changed(pixels, "ShearX", 9, fill=0)
    for y in range(12):
        shift = int(0.3 * (y + 0.5) + 0.5)
        assert np.array_equal(sheared[y, : 40 - shift], pixels[y, shift:])
    upright = changed(pixels.swapaxes(0, 1), "ShearY", 9, fill=0).swapaxes(0, 1)
    assert np.array_equal(upright, sheared)


def test_rotation_by_30_degrees_and_back() -> None:
    pixels = np.zeros((31, 31, 3), np.uint8)
    pixels[15, 15:] = 255  # a hand at three o'clock
    for sign, row in ((1, 10), (-1, 20)):  # 10 pixels away: 5 up, or down
        turned = changed(pixels, "Rotate", 9, sign)
        assert turned[row, 24].tolist() == [255] * 3
        assert turned[0, 0].tolist() == [128] * 3


@pytest.mark.parametrize("sign", [1, -1])
def test_factors_are_1_plus_or_minus_a_tenth_per_level(sign: int) -> None:
    pixels = _colour()
    brighter = changed(pixels, "Brightness", 3, sign).astype(float)
    assert np.abs(brighter - np.clip(pixels * (1 + 0.3 * sign), 0, 255)).max() <= 1
    grey = np.asarray(Image.fromarray(pixels).convert("L")).astype(float)[..., None]
    coloured = changed(pixels, "Color", 9, sign).astype(float)
    assert np.abs(coloured - np.clip(grey + (pixels - grey) * (1 + 0.9 * sign), 0, 255)).max() <= 1
    mean = float(int(grey.mean() + 0.5))
    contrast = changed(pixels, "Contrast", 6, sign).astype(float)
    assert np.abs(contrast - np.clip(mean + (pixels - mean) * (1 + 0.6 * sign), 0, 255)).max() <= 1
    assert np.array_equal(changed(pixels, "Sharpness", 0, sign), pixels)
    spread = changed(pixels, "Sharpness", 9, sign).astype(float).std()
    assert (spread > pixels.std()) == (sign == 1)


def test_changes_of_values() -> None:
    pixels = _colour()
    assert np.array_equal(changed(pixels, "Invert", 0), 255 - pixels)
    assert np.array_equal(changed(pixels, "Posterize", 0), pixels)
    assert np.array_equal(changed(pixels, "Posterize", 7), pixels & 0b11111000)
    assert np.array_equal(changed(pixels, "Posterize", 9), pixels & 0b11110000)
    assert np.array_equal(changed(pixels, "Solarize", 0), pixels)
    assert np.array_equal(changed(pixels, "Solarize", 9), 255 - pixels)
    # level 5: from 256 * 4 / 9 = 113.8 on
    expected = np.where(pixels < 114, pixels, 255 - pixels)
    assert np.array_equal(changed(pixels, "Solarize", 5), expected)
    dull = (pixels // 4 + 60).astype(np.uint8)
    stretched = changed(dull, "AutoContrast", 0)
    assert stretched.min() == 0 and stretched.max() == 255
    dark = (pixels.astype(float) ** 2 / 255).astype(np.uint8)
    assert (dark < 128).mean() > 0.65
    assert (changed(dark, "Equalize", 0) < 128).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", POLICIES)
def test_images_keep_shape_and_type_and_most_change(channels: int, name: module.Policy) -> None:
    images = torch.from_numpy(_colour(64, 16)).permute(2, 0, 1)[:channels].expand(64, -1, -1, -1)
    steps = (AutoAugment(policy=name),)
    after = augment(images, steps, torch.Generator().manual_seed(2))
    assert after.shape == images.shape and after.dtype == torch.uint8
    share = (after != images).flatten(1).any(1).float().mean()
    assert share > 0.5
    again = augment(images, steps, torch.Generator().manual_seed(2))
    assert torch.equal(after, again)


@pytest.mark.parametrize(
    "inputs",
    [torch.zeros(1, 2, 8, 8, dtype=torch.uint8), torch.zeros(1, 3, 8, 8)],
    ids=["two channels", "float32"],
)
def test_other_samples_than_images_of_8_bits_are_refused(inputs: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match=r"images of 8 bits.*remove it from data\.augment"):
        augment(inputs, (AutoAugment(),), torch.Generator())


def test_recipes_of_event_frames_are_refused_before_they_start() -> None:
    from spikeloom.data.base import DataSpec
    from spikeloom.data.events.transform import FrameTransform

    spec = DataSpec("made frames", (2, 8, 8), ("a", "b"), "events")
    config = load_recipe(
        "plif/digits-events", ['data.augment=[{ kind = "autoaugment" }, { kind = "cutout" }]']
    ).data
    with pytest.raises(ConfigError, match="made frames has event frames"):
        FrameTransform(config, spec, training=True)


@pytest.mark.parametrize("size", [1, 4, 5])
def test_cutout_zeroes_a_square_around_every_pixel_alike(size: int) -> None:
    count, side = 3000, 6
    images = torch.full((count, 3, side, side), 200, dtype=torch.uint8)
    cut = augment(images, (Cutout(size=size),), torch.Generator().manual_seed(4))
    assert cut.dtype == torch.uint8
    found = Counter()
    for mask in (cut == 0).numpy():
        assert (mask == mask[0]).all()
        found[mask[0].tobytes()] += 1
    holes = Counter()
    for y in range(side):
        for x in range(side):
            mask = np.zeros((side, side), bool)
            top, left = y - size // 2, x - size // 2
            mask[max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = True
            holes[mask.tobytes()] += 1
    assert set(found) == set(holes)
    for mask, ways in holes.items():
        share = ways / side**2
        # five standard deviations
        assert abs(found[mask] / count - share) < 5 * (share * (1 - share) / count) ** 0.5


def test_several_holes_are_drawn_independently() -> None:
    images = torch.ones(500, 1, 20, 20, dtype=torch.uint8)
    cut = augment(images, (Cutout(size=1, holes=3),), torch.Generator().manual_seed(4))
    zeros = (cut == 0).flatten(1).sum(1)
    assert zeros.max() == 3 and zeros.float().mean() > 2.9


def test_cutout_cuts_all_frames_of_a_sample_alike() -> None:
    from spikeloom.data.events.transform import augment_frames

    frames = torch.ones(4, 5, 2, 8, 8)
    cut = augment_frames(frames, (Cutout(size=4),), torch.Generator().manual_seed(1))
    assert torch.equal(cut, cut[:1, :, :1].expand_as(cut))
    assert len({sample.numpy().tobytes() for sample in cut[0]}) > 1
