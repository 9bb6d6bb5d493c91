"""Changes of recordings and of batches of frames."""

import numpy as np
import pytest
import torch

from spikeloom.config.data import Crop, Flip
from spikeloom.data.events import augment as change
from spikeloom.data.events import frame_augment as batch
from spikeloom.data.events.array import Events, events
from spikeloom.errors import DataError

SIZE = (2, 6, 8)


@pytest.fixture
def recording() -> Events:
    rng = np.random.default_rng(1)
    t = np.sort(rng.integers(0, 500, 120))
    return events(t, *(rng.integers(0, side, 120) for side in (8, 6, 2)), size=SIZE)


@pytest.mark.parametrize(
    "flip", [change.flip_x, change.flip_y, change.flip_polarity, change.flip_time]
)
def test_a_flip_undoes_itself(recording: Events, flip) -> None:
    assert not np.array_equal(flip(recording).table(), recording.table())
    assert np.array_equal(flip(flip(recording)).table(), recording.table())


@pytest.mark.parametrize("interval", [0, 3, 40])
def test_denoising_equals_the_loop_over_events(recording: Events, interval: int) -> None:
    rows = recording.table()
    expected = [
        row
        for row in rows.tolist()
        if any(
            0 <= row[0] - t <= interval and max(abs(row[1] - x), abs(row[2] - y)) == 1
            for t, x, y, _ in rows
        )
    ]
    assert change.denoise(recording, interval).table().tolist() == expected
    assert 0 < len(change.denoise(recording, 40)) < len(recording)


def test_hot_pixels_are_silenced(recording: Events) -> None:
    hot = events(np.arange(500), *np.full((2, 500), 3), np.zeros(500), SIZE)
    both = change.without_hot_pixels(
        Events(*np.concatenate([recording.table(), hot.table()]).T, SIZE), 50_000
    )
    assert not ((both.x == 3) & (both.y == 3)).any() and len(both) > 80


def test_cropping_and_shifting_agree(recording: Events) -> None:
    window = change.crop(recording, 2, 1, 5, 4)
    moved = change.shift(recording, -2, -1)
    kept = moved.where((moved.x < 5) & (moved.y < 4))
    assert window.size == (2, 4, 5)
    assert np.array_equal(window.table(), kept.table())
    with pytest.raises(DataError, match="does not lie in"):
        change.crop(recording, 4, 0, 5, 4)


def test_downsampling_keeps_every_event(recording: Events) -> None:
    small = change.downsample(recording, 3)
    assert small.size == (2, 2, 3) and len(small) == len(recording)


def test_jitter_and_deletion_repeat_from_their_seed(recording: Events) -> None:
    draw = np.random.default_rng
    one, two, other = (change.jitter(recording, 5.0, draw(seed)).table() for seed in (1, 1, 2))
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert (np.diff(one[:, 0]) >= 0).all() and one[:, 0].min() >= 0
    assert len(change.delete(recording, 0.0, draw(0))) == len(recording)
    assert len(change.delete(recording, 1.0, draw(0))) == 0
    assert 30 < len(change.delete(recording, 0.5, draw(0))) < 90
    assert len(change.random_shift(recording, 2, draw(3))) <= len(recording)


def _frames() -> torch.Tensor:
    return torch.randint(0, 5, (3, 4, 2, 12, 12), generator=torch.Generator().manual_seed(0))


def test_a_sample_is_cropped_alike_in_all_frames() -> None:
    one = torch.zeros(3, 2, 2, 12, 12)
    one[..., 5, 6] = 1
    cropped = batch.augment_frames(one, (Crop(padding=4),), torch.Generator().manual_seed(2))
    for sample in range(2):
        assert (cropped[:, sample] == cropped[0, sample, 0]).all()
    assert cropped[0, 0, 0].argmax() != cropped[0, 1, 0].argmax()


def test_frames_are_resized_for_training_and_testing_but_cropped_for_training_only() -> None:
    frames = _frames().to(torch.uint8)
    train = batch.FrameTransform((Crop(padding=2), Flip(p=0.5)), side=6)
    test = batch.FrameTransform(side=6)
    changed, plain = (
        transform(frames, torch.Generator().manual_seed(0)) for transform in (train, test)
    )
    assert changed.shape == plain.shape == (3, 4, 2, 6, 6)
    assert torch.equal(plain, batch.resize(frames.float(), 6))
    assert not torch.equal(changed, plain)


def test_rolling_wraps_around_and_moves_samples_apart() -> None:
    frames = _frames()
    rolled = batch.roll(frames, 3, torch.Generator().manual_seed(5))
    assert torch.equal(rolled.sum((0, 2, 3, 4)), frames.sum((0, 2, 3, 4)))
    shifts = torch.randint(-3, 4, (2, 4, 1), generator=torch.Generator().manual_seed(5))
    for sample in range(4):
        expected = frames[:, sample].roll(shifts[:, sample, 0].tolist(), (2, 3))
        assert torch.equal(rolled[:, sample], expected)


def test_deleting_events_thins_counts() -> None:
    frames = torch.full((2, 8, 2, 16, 16), 10.0)
    thinned = batch.delete_events(frames, 0.25, torch.Generator().manual_seed(0))
    assert torch.equal(thinned, thinned.round()) and float(thinned.max()) <= 10
    # 81,920 binomial draws: a mean of 7.5 within five standard errors of 0.0152
    assert abs(float(thinned.mean()) - 7.5) < 0.08
    assert torch.equal(batch.delete_events(frames, 0.0, torch.Generator()), frames)


def test_chosen_frames_are_distinct_and_in_order() -> None:
    frames = torch.arange(9.0).view(9, 1)
    chosen = batch.choose_frames(frames, 5, torch.Generator().manual_seed(0)).flatten()
    assert len(chosen) == 5 and (chosen.diff() > 0).all()
    with pytest.raises(ValueError, match="1 to 9"):
        batch.choose_frames(frames, 10, torch.Generator())


def test_padding_tells_own_frames_from_added_ones() -> None:
    samples = [torch.ones(2, 3), torch.ones(4, 3), torch.ones(0, 3)]
    padded, mask = batch.pad(samples)
    assert padded.shape == (4, 3, 3) and mask.tolist() == [
        [True, True, False],
        [True, True, False],
        [False, True, False],
        [False, True, False],
    ]
    assert torch.equal(padded.any(-1), mask)
