"""Recordings made from images and sound, and pictures made from recordings."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import event_files as make
from spikeloom.data.events.array import spikes
from spikeloom.data.events.audio import Cochlea, read_wav
from spikeloom.data.events.camera import Camera, enlarged
from spikeloom.data.events.frames import Framing
from spikeloom.data.sets.digits_events import DIGITS_EVENTS
from spikeloom.data.sets.nmnist import NMNIST
from spikeloom.errors import DataError
from spikeloom.report.recording import coloured, picture, save_animation, show

EAR = Cochlea(channels=60)


def _tone(f: float, seconds: float = 0.3, rate: int = 8000) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * f * np.arange(int(seconds * rate)) / rate)


@pytest.mark.parametrize("f", [150.0, 600.0, 2400.0])
def test_a_tone_excites_the_channel_of_its_frequency(f: float) -> None:
    heard = EAR.spikes(_tone(f), 8000)
    loudest = int(np.bincount(heard.x, minlength=60).argmax())
    nearest = int(np.abs(EAR.frequencies() - f).argmin())
    assert abs(loudest - nearest) <= 1


def test_spikes_of_low_tones_keep_to_their_phase() -> None:
    heard = EAR.spikes(_tone(200.0), 8000)
    channel = int(np.abs(EAR.frequencies() - 200).argmin())
    t = heard.t[(heard.x == channel) & (heard.t > 100_000)]
    phase = np.exp(2j * np.pi * 200 * t / 1e6)
    assert len(t) > 10 and abs(phase.mean()) > 0.9


def test_loudness_does_not_matter_and_silence_is_silent() -> None:
    sound = _tone(500.0)
    one, other = (EAR.spikes(sound * scale, 8000) for scale in (1.0, 0.125))
    assert np.array_equal(one.table(), other.table()) and len(one)
    assert len(EAR.spikes(np.zeros(100), 8000)) == len(EAR.spikes([], 8000)) == 0


def test_more_gain_gives_more_spikes_and_rates_are_converted() -> None:
    counts = [len(Cochlea(channels=20, gain=g).spikes(_tone(500.0), 8000)) for g in (3.0, 6.0)]
    assert 0 < counts[0] < counts[1]
    other = Cochlea(channels=60).spikes(_tone(600.0, rate=16_000), 16_000)
    nearest = int(np.abs(EAR.frequencies() - 600).argmin())
    assert abs(int(np.bincount(other.x, minlength=60).argmax()) - nearest) <= 1
    assert other.t.max() < 300_000


def test_spikes_keep_the_refractory_time() -> None:
    heard = Cochlea(channels=8, gain=50.0, refractory=0.004).spikes(_tone(400.0), 8000)
    for channel in range(8):
        gaps = np.diff(heard.t[heard.x == channel])
        assert len(gaps) and gaps.min() > 4000


@pytest.mark.parametrize(
    "options",
    [{"channels": 0}, {"low": 0.0}, {"high": 4000.0}, {"gain": 0.0}, {"low": 900.0, "high": 300.0}],
)
def test_impossible_ears_are_refused(options) -> None:
    with pytest.raises(DataError):
        Cochlea(**options)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_files_of_all_widths(tmp_path: Path, width: int, channels: int) -> None:
    sound = _tone(300.0, 0.05)
    make.wav(tmp_path / "a.wav", sound, 11_025, width, channels)
    read, rate = read_wav((tmp_path / "a.wav").read_bytes())
    assert rate == 11_025
    # one step of the coarsest quantisation
    np.testing.assert_allclose(read, sound, atol=0.016 if width == 1 else 1e-4)
    assert len(EAR.spikes(read, rate)) > 0


@pytest.fixture(scope="module")
def good_wav(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("wav") / "a.wav"
    make.wav(path, _tone(300.0, 0.05))
    return path.read_bytes()


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_wav_files_are_refused_or_read(good_wav: bytes, data: st.DataObject) -> None:
    damaged = bytearray(good_wav)
    places = st.tuples(st.integers(0, 60) | st.integers(0, len(damaged) - 1), st.integers(0, 255))
    for place, value in data.draw(st.lists(places, max_size=4)):
        damaged[place] = value
    try:
        sound, _ = read_wav(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]), "bad.wav")
    except DataError as error:
        assert "bad.wav" in str(error)
    else:
        assert np.isfinite(sound).all()


def test_a_wav_file_cut_short_is_named(good_wav: bytes) -> None:
    with pytest.raises(DataError, match=r"x\.wav.*cut short"):
        read_wav(good_wav[:-10], "x.wav")


PLAIN = Camera(height=12, width=12, noise=0.0, mismatch=0.0, amplitude=3.0)


def _spot() -> np.ndarray:
    image = np.zeros((1, 7, 7), np.uint8)
    image[0, 3, 3] = 255
    return image


def test_a_moving_spot_gives_on_events_where_it_goes_and_off_events_where_it_was() -> None:
    (seen,) = PLAIN.record(_spot(), 0)
    first = seen.between(0, 100_000)
    on, off = (first.where(first.p == p) for p in (1, 0))
    assert on.y.mean() > off.y.mean() and on.x.mean() > off.x.mean()
    assert (np.diff(seen.t) >= 0).all() and seen.t.max() < 300_000


def test_events_add_up_to_the_change_of_brightness() -> None:
    """Back at its start, every pixel has as many ON as OFF events, up to one."""
    (seen,) = PLAIN.record(_spot(), 0)
    sums = np.zeros((12, 12), np.int64)
    np.add.at(sums, (seen.y, seen.x), seen.p.astype(np.int64) * 2 - 1)
    assert len(seen) > 100 and np.abs(sums).max() <= 1


def test_a_lower_threshold_sees_more_and_a_still_picture_is_dark() -> None:
    counts = [
        len(Camera(height=12, width=12, noise=0, threshold=th).record(_spot(), 0)[0])
        for th in (0.2, 0.6)
    ]
    assert counts[0] > 2 * counts[1] > 0
    still = Camera(height=12, width=12, noise=0, amplitude=0)
    assert len(still.record(_spot(), 0)[0]) == 0


def test_noise_has_its_rate_and_recordings_repeat_from_their_seed() -> None:
    noisy = Camera(height=12, width=12, noise=20.0, amplitude=0)
    dark = np.zeros((5, 4, 4), np.float32)
    counts = [len(one) for one in noisy.record(dark, 7)]
    # 864 expected on average, standard error 13
    assert abs(np.mean(counts) - 20 * 144 * 0.3) < 60
    assert counts == [len(one) for one in noisy.record(dark, 7)]
    assert np.array_equal(noisy.record(dark[:2], 7)[1].t, noisy.record(dark, 7)[1].t)


def test_recordings_are_written_in_nmnists_layout(tmp_path: Path) -> None:
    camera = Camera()
    images = enlarged(np.random.default_rng(0).random((2, 8, 8)), 20, 20)
    made = camera.record(images, 0)
    for split in ("Train", "Test"):
        make.write_nmnist(tmp_path / "NMNIST", split, made, [4, 9])
    read = NMNIST.open(tmp_path)
    assert read.train.labels.tolist() == [4, 9]
    for index in range(2):
        assert np.array_equal(read.test.read(index).table(), made[index].table())


@pytest.mark.parametrize("images", [np.full((1, 4, 4), 2.0), np.zeros((4, 4))])
def test_impossible_images_are_refused(images: np.ndarray) -> None:
    with pytest.raises(DataError, match="expected"):
        Camera().record(images, 0)


def test_pictures_are_written(tmp_path: Path) -> None:
    shown = show("digits-events", 3, split="test", output=tmp_path)
    label = DIGITS_EVENTS.classes[int(DIGITS_EVENTS.open(None).test.labels[3])]
    assert f"test 3: {label}," in shown.text
    with Image.open(shown.picture) as still:
        pixels = np.asarray(still.convert("RGB")).reshape(-1, 3)
    # both polarities are there
    assert (pixels[:, 0] > pixels[:, 2] + 60).any() and (pixels[:, 2] > pixels[:, 0] + 60).any()
    with Image.open(shown.animation) as moving:
        assert moving.n_frames == 10 and moving.size == (256, 256)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "index", "split", "text"),
    [
        ("digits", 0, "train", "holds images"),
        ("digits-events", 5000, "train", "0 to 1437"),
        ("digits-events", -1, "train", "0 to 1437"),
        ("digits-events", 0, "val", "train or test"),
    ],
)
def test_what_cannot_be_shown_is_named(name, index, split, text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=text):
        show(name, index, split=split, output=tmp_path)


@pytest.mark.parametrize(
    "recording", [make.nothing((2, 6, 6)), make.nothing((1, 1, 9)), spikes([5], [3], 9)]
)
def test_recordings_with_little_in_them_are_drawn(recording, tmp_path: Path) -> None:
    framing = Framing(4, "window", 10)
    picture(recording, framing, "little").savefig(tmp_path / "a.png")
    save_animation(recording, framing, tmp_path / "a.gif")
    assert (tmp_path / "a.png").stat().st_size > 1000
    with Image.open(tmp_path / "a.gif") as moving:
        assert min(moving.size) > 0


def test_colours_tell_polarities_apart() -> None:
    counts = np.zeros((2, 1, 3), np.uint8)
    counts[0, 0, 0] = counts[1, 0, 2] = 4
    off, none, on = coloured(counts, 4)[0].astype(int)
    assert none.tolist() == [255] * 3 and off[2] > off[0] and on[0] > on[2]
