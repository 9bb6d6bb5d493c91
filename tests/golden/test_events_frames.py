"""Frames, normalisations and resizing against the published programs' arrays."""

import re

import numpy as np
import pytest
import torch

from spikeloom.data.events.array import Events, events, spikes
from spikeloom.data.events.frame_set import Normalization, normalize
from spikeloom.data.events.frames import Frames, Framing, integrate
from spikeloom.data.events.transform import resize
from spikeloom.data.sets.nmnist import read_stable_text, stable_framing
from spikeloom.data.sets.shd import float16_bins

Arrays = dict[str, np.ndarray]
BY = ("number", "time")
PLANES: tuple[Normalization, ...] = ("max", "sum", "norm")


def _recording(arrays: Arrays, size: tuple[int, int, int]) -> Events:
    return events(arrays["t"], arrays["x"], arrays["y"], arrays["p"], size)


def _plif(arrays: Arrays, by) -> Frames:
    size = 2, int(arrays["height"]), int(arrays["width"])
    return integrate(_recording(arrays, size), Framing(int(arrays["T"]), by))


@pytest.mark.parametrize("by", BY)
def test_counts_equal_the_plif_program(plif_frames: Arrays, by) -> None:
    frames = _plif(plif_frames, by)
    assert np.array_equal(frames.counts, plif_frames[f"{by}_None"])


def test_frequency_equals_the_plif_program(plif_frames: Arrays) -> None:
    frames = _plif(plif_frames, "time")
    ours = normalize(
        torch.from_numpy(frames.counts.astype(np.float64)),
        "frequency",
        torch.from_numpy(frames.durations),
    )
    np.testing.assert_allclose(ours.numpy(), plif_frames["time_frequency"], rtol=1e-13, atol=0)


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("how", PLANES)
def test_normalizations_equal_the_plif_program(plif_frames: Arrays, by, how) -> None:
    if f"{by}_{how}_dataset_f32" not in plif_frames:
        pytest.skip("the file holds counts only")
    frames = _plif(plif_frames, by)
    counts, durations = torch.from_numpy(frames.counts), torch.from_numpy(frames.durations)
    single, double = f"{by}_{how}_dataset_f32", f"{by}_{how}_numpy_f64"
    close = {"atol": 2e-6, "rtol": 2e-6}  # the README's float32 tolerance; `norm` crosses zero
    torch.testing.assert_close(
        normalize(counts, how, durations), torch.from_numpy(plif_frames[single]), **close
    )
    if how != "norm":  # the published helper took the population variance of NumPy arrays
        ours = normalize(counts.to(torch.float64), how, durations)
        np.testing.assert_allclose(ours.numpy(), plif_frames[double], rtol=1e-13, atol=1e-13)


def test_frames_equal_the_dsr_program(dsr_frames: Arrays) -> None:
    recording = events(*(dsr_frames[f"ev_{name}"] for name in "txyp"), size=(2, 128, 128))
    checked = 0
    for name, expected in dsr_frames.items():
        match = re.fullmatch(r"frames_(number|time)_T(\d+)(?:_norm_(\w+))?", name)
        if match is None:
            continue
        by, T, how = match.groups(default="none")
        frames = integrate(recording, Framing(int(T), by))
        ours = normalize(
            torch.from_numpy(frames.counts), how, torch.from_numpy(frames.durations)
        ).numpy()
        if how == "none":
            assert np.array_equal(ours, expected), name
        else:
            np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6, err_msg=name)
        checked += 1
    assert checked >= 8


def test_resizing_equals_the_dsr_transform(dsr_frames: Arrays) -> None:
    resized = [name for name in dsr_frames if name.startswith("resized")]
    for name in resized:
        match = re.fullmatch(r"resized\d+(_antialias)?_(?:(number|time)_)?T(\d+)", name)
        assert match, f"{name}: which frames it was made of is not known"
        antialias, expected = match[1] is not None, torch.from_numpy(dsr_frames[name])
        frames = torch.from_numpy(dsr_frames[f"frames_{match[2] or 'number'}_T{match[3]}"])
        ours = resize(frames, expected.shape[-1], antialias=antialias)
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
        batched = resize(frames[:, None], expected.shape[-1], antialias=antialias)[:, 0]
        assert torch.equal(batched, ours)
    assert resized


def test_frames_equal_the_glif_program(glif_frames: Arrays) -> None:
    T, polarities, height, width = glif_frames["frames"].shape
    recording = _recording(glif_frames, (polarities, height, width))
    counts = integrate(recording, Framing(T)).counts
    assert np.array_equal(counts, glif_frames["frames"])
    small = resize(torch.from_numpy(counts).to(torch.float64), glif_frames["frames48"].shape[-1])
    np.testing.assert_allclose(small.numpy(), glif_frames["frames48"], rtol=0, atol=1e-12)


def test_frames_equal_the_feedback_program(ide_frames: Arrays) -> None:
    checked = 0
    for name, expected in ide_frames.items():
        match = re.fullmatch(r"frames(\d+)_T(\d+)", name)
        if match is None:
            continue
        rows = ide_frames[f"events{match[1]}"]
        text = "".join(f"{channel}\t{bin_}\n" for channel, bin_ in rows)
        recording = read_stable_text(text.encode())
        counts = integrate(recording, stable_framing(int(match[2]))).counts  # [T, p, y, x]
        assert np.array_equal(counts.transpose(1, 3, 2, 0), expected), name
        checked += 1
    assert checked


def test_windows_equal_the_first_spike_program(fs_events: Arrays) -> None:
    rows, columns = (int(factor) for factor in fs_events["dvs_ds"])
    polarities, height, width = (int(side) for side in fs_events["dvs_size"])
    t, p, x, y = fs_events["dvs_events"].astype(np.int64).T
    recording = events(t, x, y, p, (polarities, height * rows, width * columns))
    framing = Framing(
        int(fs_events["dvs_T"]), "window", int(fs_events["dvs_dt"]), downsample=(rows, columns)
    )
    counts = integrate(recording, framing).counts.transpose(1, 2, 3, 0)
    assert np.array_equal(counts, fs_events["dvs_frames"])
    assert np.array_equal(counts > 0, fs_events["dvs_time_binary"])


def test_counts_above_127_do_not_wrap(fs_events: Arrays) -> None:
    t, p, x, y = fs_events["overflow_events"].astype(np.int64).T
    wrapped = fs_events["overflow_frames"]  # int8 [2, 1, 1, 2]
    framing = Framing(wrapped.shape[-1], "window", int(t.max()) + 1)
    counts = integrate(events(t, x, y, p, (2, 1, 1)), framing).counts
    assert counts.sum() == len(t) > 127
    assert np.array_equal(counts.transpose(1, 2, 3, 0).astype(np.int8), wrapped)


def test_audio_windows_equal_the_first_spike_program(fs_events: Arrays) -> None:
    expected = fs_events["audio_frames"]  # [channels, T]
    t, channel = fs_events["audio_events"].astype(np.int64).T
    recording = spikes(t, channel, len(expected))
    for dt in (int(fs_events["dvs_dt"]),):
        counts = integrate(recording, Framing(expected.shape[1], "window", dt)).counts
        assert np.array_equal(counts[:, 0, 0].T, expected)


def test_selection_equals_the_first_spike_program(fs_events: Arrays) -> None:
    recording = spikes(fs_events["slice_times"], fs_events["slice_addrs"][:, 0], 256)
    start, length = int(fs_events["slice_start"]), int(fs_events["slice_len"])
    cut = recording.between(start, start + length)
    assert np.array_equal(cut.table()[:, :2], fs_events["slice_out"])
    zeroed = cut.from_zero()
    assert np.array_equal(zeroed.t, fs_events["get_slice_times"])
    assert np.array_equal(zeroed.x, fs_events["get_slice_addrs"][:, 0])


def test_both_shd_binnings_equal_the_first_spike_program(fs_events: Arrays) -> None:
    channels, steps = fs_events["shd_frames"].shape
    T, empty, dt = (int(fs_events[f"shd_{name}"]) for name in ("T", "T_empty", "dt"))
    assert steps == T + empty
    framing = Framing(T, "window", dt * 1000, origin=0, empty=empty)
    times, units = fs_events["shd_times"], fs_events["shd_units"]
    rounded = spikes(float16_bins(times, dt * 1000) * dt * 1000, units, channels)
    exact = spikes(times.astype(np.float64) * 1e6, units, channels)
    for recording, name in ((rounded, "shd_frames"), (exact, "shd_frames_if_float64")):
        counts = integrate(recording, framing).counts
        assert np.array_equal(counts[:, 0, 0].T, fs_events[name]), name


def test_transforms_equal_the_first_spike_program(fs_events: Arrays) -> None:
    frames = torch.from_numpy(fs_events["tf_in"]).permute(3, 0, 1, 2)  # [P, H, W, T] -> [T, ...]
    rows, columns = (
        full // kept
        for full, kept in zip(frames.shape[2:], fs_events["tf_spatial2"].shape[1:3], strict=True)
    )
    assert np.array_equal(
        frames[:, :, ::rows, ::columns].permute(1, 2, 3, 0), fs_events["tf_spatial2"]
    )
