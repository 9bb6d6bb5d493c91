"""Augmentation: Pillow's pixels, the published distributions, the generator's randomness."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from spikeloom.components.augmentations import (
    Affine,
    AlternatingFlip,
    AutoAugment,
    Crop,
    Cutout,
    Flip,
)
from spikeloom.data import Loader, TensorSplit, Transform, to_float
from spikeloom.data.images import augment as module
from spikeloom.data.images.augment import affine, augment


def _images(batch: int, channels: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, channels, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _pillow(
    image: np.ndarray, angle: float, shift: tuple[int, int], scale: float, fill: int
) -> np.ndarray:
    """What torchvision asks of Pillow: the matrix from output to source, nearest neighbour."""
    height, width = image.shape
    turn = math.radians(angle)
    forward = np.array(
        [
            [scale * math.cos(turn), -scale * math.sin(turn), 0],
            [scale * math.sin(turn), scale * math.cos(turn), 0],
            [0, 0, 1],
        ]
    )
    to_origin, back = np.eye(3), np.eye(3)
    to_origin[:2, 2] = -width / 2, -height / 2
    back[:2, 2] = width / 2 + shift[0], height / 2 + shift[1]
    inverse = np.linalg.inv(back @ forward @ to_origin)
    moved = Image.fromarray(image).transform(
        (width, height),
        Image.Transform.AFFINE,
        inverse[:2].ravel().tolist(),
        Image.Resampling.NEAREST,
        fillcolor=fill,
    )
    return np.asarray(moved)


@settings(max_examples=500, deadline=None)
@given(
    # At an angle of exactly 0 Pillow takes another path, which rounds in floating point.
    angle=st.floats(0.01, 180) | st.floats(-180, -0.01),
    shift=st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
    scale=st.floats(0.3, 3),
    height=st.integers(1, 33),
    width=st.integers(1, 33),
    fill=st.integers(0, 255),
)
def test_affine_equals_pillow_on_every_pixel(
    angle: float, shift: tuple[int, int], scale: float, height: int, width: int, fill: int
) -> None:
    image = _images(1, 1, height, width)
    numbers = torch.tensor([angle, *shift, scale], dtype=torch.float64)
    ours = affine(image, numbers[:1], numbers[None, 1:3], numbers[3:], fill)
    theirs = _pillow(image[0, 0].numpy(), angle, shift, scale, fill)
    assert np.array_equal(ours[0, 0].numpy(), theirs)


def test_affine_treats_each_sample_of_a_batch_as_it_would_alone() -> None:
    images = _images(5, 3, 28, 28)
    generator = torch.Generator().manual_seed(1)
    angle = torch.rand(5, generator=generator) * 60 - 30
    shift = torch.randint(-4, 5, (5, 2), generator=generator)
    scale = torch.rand(5, generator=generator) + 0.5
    together = affine(images, angle, shift, scale)
    for one in range(5):
        part = slice(one, one + 1)
        for channel in range(3):
            alone = affine(images[part, [channel]], angle[part], shift[part], scale[part])
            assert torch.equal(alone[0, 0], together[one, channel])


def test_affine_by_hand() -> None:
    image = torch.arange(1, 10, dtype=torch.uint8).view(1, 1, 3, 3)
    zero, one, none = torch.zeros(1), torch.ones(1), torch.zeros(1, 2)
    assert torch.equal(affine(image, zero, none, one), image)
    quarter = affine(image, torch.tensor([90.0]), none, one)
    assert quarter[0, 0].tolist() == [[7, 4, 1], [8, 5, 2], [9, 6, 3]]
    right_and_up = affine(image, zero, torch.tensor([[1, -1]]), one, fill=99)
    assert right_and_up[0, 0].tolist() == [[99, 4, 5], [99, 7, 8], [99, 99, 99]]
    tripled = affine(image, zero, none, torch.tensor([3.0]))
    assert tripled[0, 0].tolist() == [[5] * 3] * 3


def test_affine_draws_what_was_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Angle within 30 degrees, whole shifts within 0.15 x 28 = 4.2, scale 0.85 to 1.11."""
    drawn: dict[str, torch.Tensor] = {}

    def record(inputs: torch.Tensor, **numbers: torch.Tensor) -> torch.Tensor:
        drawn.update(numbers)
        return inputs

    monkeypatch.setattr(module, "affine", record)
    count = 20_000
    images = torch.zeros(count, 1, 28, 28, dtype=torch.uint8)
    augment(images, (Affine(),), torch.Generator().manual_seed(3))
    angle, shift, scale = drawn["angle"], drawn["shift"], drawn["scale"]

    def assert_uniform(values: torch.Tensor, low: float, high: float) -> None:
        assert low <= values.min() and values.max() <= high
        shares = torch.histc(values.float(), 10, low, high) / count
        # A share of 0.1 has a standard deviation of 0.0021; five of them.
        assert (shares - 0.1).abs().max() < 0.011

    assert_uniform(angle, -30, 30)
    assert_uniform(scale, 0.85, 1.11)
    for axis in range(2):
        values, counts = shift[:, axis].unique(return_counts=True)
        assert values.tolist() == list(range(-4, 5))
        # Of the interval of 8.4 pixels, the outermost whole shifts get 0.7, the others 1.
        expected = torch.tensor([0.7, *[1.0] * 7, 0.7]) / 8.4
        assert (counts / count - expected).abs().max() < 0.012
    together = torch.stack([angle, scale, shift[:, 0], shift[:, 1]])
    assert (torch.corrcoef(together) - torch.eye(4)).abs().max() < 0.04


def test_shifts_follow_width_and_height(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[torch.Tensor] = []
    monkeypatch.setattr(module, "affine", lambda inputs, **numbers: drawn.append(numbers["shift"]))
    images = torch.zeros(2000, 1, 10, 40, dtype=torch.uint8)
    augment(images, (Affine(translate=0.2),), torch.Generator().manual_seed(0))
    assert drawn[0].abs().amax(0).tolist() == [8, 2]


def test_crop_takes_every_window_of_the_zero_padded_image() -> None:
    image = _images(1, 3, 6, 8).clamp(min=1)
    crops = augment(
        image.expand(600, -1, -1, -1), (Crop(padding=2),), torch.Generator().manual_seed(0)
    )
    padded = torch.nn.functional.pad(image[0], (2, 2, 2, 2))
    windows = {
        padded[:, top : top + 6, left : left + 8].numpy().tobytes(): (top, left)
        for top in range(5)
        for left in range(5)
    }
    found = [windows[crop.numpy().tobytes()] for crop in crops]
    assert set(found) == {(top, left) for top in range(5) for left in range(5)}
    # 600 draws of 25 windows: 24 each, standard deviation 4.8; five of them.
    assert max(found.count(window) for window in set(found)) < 48


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_flip_mirrors_left_and_right_with_its_probability(p: float) -> None:
    images = _images(2000, 2, 3, 4)
    flipped = augment(images, (Flip(p=p),), torch.Generator().manual_seed(0))
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    same = (flipped == images).flatten(1).all(1)
    assert (mirrored ^ same).all()
    # Standard deviation at most 0.0112; five of them.
    assert abs(mirrored.float().mean().item() - p) < (0.056 if 0 < p < 1 else 1e-9)


STEPS = (Affine(), Crop(), Flip(), AutoAugment(), Cutout())


def test_only_the_generator_decides() -> None:
    images = _images(16, 3, 32, 32)
    before = images.clone()
    torch.manual_seed(1)
    first = augment(images, STEPS, torch.Generator().manual_seed(5))
    torch.manual_seed(2)
    again = augment(images, STEPS, torch.Generator().manual_seed(5))
    other = augment(images, STEPS, torch.Generator().manual_seed(6))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.dtype == torch.uint8 and first.shape == images.shape
    assert torch.equal(images, before)


def test_layout_of_the_input_does_not_matter() -> None:
    images = _images(4, 3, 32, 32)
    strided = images.to(memory_format=torch.channels_last)
    first, second = (augment(x, STEPS, torch.Generator().manual_seed(5)) for x in (images, strided))
    assert torch.equal(first, second)


def test_empty_batch_stays_empty() -> None:
    assert augment(_images(0, 1, 28, 28), STEPS, torch.Generator()).shape == (0, 1, 28, 28)


def test_wrong_number_of_axes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \[2, 28, 28\] .* give images \[B, C, H, W\]"):
        augment(torch.zeros(2, 28, 28, dtype=torch.uint8), STEPS, torch.Generator())


def test_to_float_normalises_each_channel() -> None:
    images = _images(7, 3, 5, 5)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    expected = images.double() / 255
    for channel in range(3):
        expected[:, channel] = (expected[:, channel] - mean[channel]) / std[channel]
    normal = to_float(images, mean, std)
    assert normal.dtype == torch.float32
    # Three roundings of float32 of numbers up to 2.7.
    assert (normal - expected).abs().max() < 1e-6
    assert torch.equal(to_float(images, (0.0,) * 3, (1.0,) * 3), images.float() / 255)


def test_to_float_refuses_what_is_not_8_bit_or_has_other_channels() -> None:
    with pytest.raises(TypeError, match=r"dtype torch.float32 cannot be normalised: give uint8"):
        to_float(torch.zeros(1, 1, 2, 2), (0.0,), (1.0,))
    with pytest.raises(ValueError, match="1 means and 1 deviations for 3 channels"):
        to_float(_images(1, 3, 2, 2), (0.0,), (1.0,))


def test_transform_augments_then_normalises() -> None:
    images = _images(4, 1, 28, 28)
    ours = Transform(STEPS, (0.1,), (0.2,))(images, torch.Generator().manual_seed(9))
    expected = to_float(augment(images, STEPS, torch.Generator().manual_seed(9)), (0.1,), (0.2,))
    assert torch.equal(ours, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_images_on_the_gpu() -> None:
    images = _images(64, 3, 32, 32)
    here = augment(images, STEPS, torch.Generator().manual_seed(5))
    there = augment(images.cuda(), STEPS, torch.Generator().manual_seed(5))
    assert there.is_cuda and torch.equal(there.cpu(), here)


def test_alternating_flip_shows_every_sample_from_both_sides_in_any_two_epochs():
    images = torch.arange(3, dtype=torch.uint8).expand(400, 1, 1, 3).contiguous()
    split = TensorSplit(images, torch.arange(400))
    transform = Transform((AlternatingFlip(),), (0.0,), (1.0,))
    loader = Loader(split, 50, shuffle=True, transform=transform)

    def mirrored(epoch: int, start: int = 0) -> torch.Tensor:
        seen = torch.full((400,), -1)
        for batch in loader.epoch(epoch, start):
            seen[batch.targets] = (batch.inputs[:, 0, 0, 0] > 0).long()
        return seen

    even, odd = mirrored(0), mirrored(1)
    assert torch.equal(even, 1 - odd) and torch.equal(even, mirrored(2))
    assert 150 < even.sum() < 250
    resumed = mirrored(1, start=5)  # in the middle of an epoch, as after a kill
    assert torch.equal(resumed[resumed >= 0], odd[resumed >= 0])
    with pytest.raises(TypeError, match="needs the generator of a Loader"):
        AlternatingFlip().apply(images, torch.Generator())
