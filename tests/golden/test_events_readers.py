"""Raw readers and file layouts against the published programs' arrays."""

from pathlib import Path

import numpy as np
import pytest

import event_files as make
from event_files import mat_v5, mat_v73, shd_file
from spikeloom.data.events import groups
from spikeloom.data.events.aedat import read_aedat2, read_aedat3
from spikeloom.data.events.array import Events, events, spikes
from spikeloom.data.events.atis import read_bin
from spikeloom.data.events.frames import Framing
from spikeloom.data.sets import ntidigits
from spikeloom.data.sets.dvsplane import active_part, read_mat
from spikeloom.data.sets.shd import open_spikes

Arrays = dict[str, np.ndarray]


def _reader(raw: bytes):
    if raw.startswith(b"#!AER-DAT3"):
        return read_aedat3
    return read_aedat2 if raw.startswith(b"#") else read_bin


def test_readers_equal_the_plif_program(plif_reader: Arrays) -> None:
    raw = plif_reader["raw"].tobytes()
    recording = _reader(raw)(raw)
    for name in "txyp":
        assert np.array_equal(getattr(recording, name), plif_reader[name]), name


def test_nmnist_files_are_written_as_they_are_read(plif_reader: Arrays) -> None:
    raw = plif_reader["raw"].tobytes()
    if _reader(raw) is not read_bin:
        pytest.skip("another format")
    assert make.write_bin(read_bin(raw)) == raw


def test_aedat2_equals_the_dsr_program(dsr_frames: Arrays) -> None:
    recording = read_aedat2(dsr_frames["aedat_bytes"].tobytes())
    for name in "txyp":
        assert np.array_equal(getattr(recording, name), dsr_frames[f"ev_{name}"]), name


def test_aedat3_segments_equal_the_first_spike_program(fs_events: Arrays) -> None:
    trial = read_aedat3(fs_events["aedat_bytes"].tobytes())
    cuts = [
        trial.between(int(start), int(end)).table() for _, start, end in fs_events["aedat_labels"]
    ]
    assert np.array_equal(np.concatenate(cuts), fs_events["aedat_events"])


@pytest.mark.parametrize("write", [mat_v5, mat_v73])
def test_mat_files_equal_the_first_spike_program(fs_events: Arrays, write) -> None:
    fields = {name: fs_events[f"mat_{name}"] for name in ("p", "ts", "x", "y")}
    recording = read_mat(write("TD", fields))
    expected = fs_events["mat_events"]  # columns ts, x, y, p
    assert np.array_equal(recording.table(), expected)


def test_activity_clipping_equals_the_first_spike_program(fs_events: Arrays) -> None:
    kept = active_part(fs_events["clip_ts"].astype(np.int64))
    assert kept.start == int(fs_events["clip_first_row"])
    assert kept.stop - kept.start == int(fs_events["clip_num_rows"])


def _framing(arrays: Arrays, name: str, **options) -> Framing:
    T, empty, dt = (int(arrays[f"{name}_{key}"]) for key in ("T", "T_empty", "dt"))
    return Framing(T, "window", dt, empty=empty, **options)


@pytest.mark.parametrize(
    ("name", "size", "split"), [("gest", (2, 128, 128), "train"), ("plane", (2, 240, 304), None)]
)
def test_camera_files_give_the_first_spike_programs_frames(
    fs_events: Arrays, tmp_path: Path, name: str, size: tuple[int, int, int], split: str | None
) -> None:
    recordings = []
    for index in (0, 1):
        x, y, p = fs_events[f"{name}_data{index}"].T
        recording = events(fs_events[f"{name}_time{index}"], x, y, p, size)
        recordings.append((recording, int(fs_events[f"{name}_label{index}"])))
    path = tmp_path / "file.hdf5"
    make.write_groups(path, recordings, split=split)
    classes = len(fs_events[f"{name}_target0"])
    read = groups.open_groups(path, size)
    framing = _framing(fs_events, name, downsample=(4, 4))
    for index in (0, 1):
        counts = read.frames(index, framing).counts.transpose(1, 2, 3, 0)
        assert np.array_equal(counts, fs_events[f"{name}_frames{index}"])
        assert np.array_equal(
            np.eye(classes)[read.labels[index]], fs_events[f"{name}_target{index}"]
        )


def test_ntidigits_file_gives_the_first_spike_programs_frames(
    fs_events: Arrays, tmp_path: Path
) -> None:
    def one(index: int) -> tuple[Events, int]:
        times, addresses = fs_events[f"nt_times{index}"], fs_events[f"nt_addrs{index}"][:, 0]
        return spikes(times, addresses, 64), int(fs_events[f"nt_label{index}"])

    path = tmp_path / "n-tidigits-single.hdf5"
    make.write_utterances(path, [one(0), one(1)], [one(2)])
    pair = ntidigits.open_utterances(path)
    framing = _framing(fs_events, "nt", horizon=True)
    for split, count in (("train", 2), ("test", 1)):
        recordings = getattr(pair, split)
        assert len(recordings.labels) == count
        for index in range(count):
            counts = recordings.frames(index, framing).counts[:, 0, 0].T
            assert np.array_equal(counts, fs_events[f"nt_{split}_frames{index}"])
            target = np.eye(len(ntidigits.CLASSES))[recordings.labels[index]]
            assert np.array_equal(target, fs_events[f"nt_{split}_target{index}"])


@pytest.mark.parametrize(
    ("binning", "name"), [("float16", "shd_frames"), ("exact", "shd_frames_if_float64")]
)
def test_shd_file_gives_the_first_spike_programs_frames(
    fs_events: Arrays, tmp_path: Path, binning, name: str
) -> None:
    path = tmp_path / "shd_train.h5"
    shd_file(path, [fs_events["shd_times"]], [fs_events["shd_units"]], [3])
    read = open_spikes(path, binning=binning)
    T, empty, dt = (int(fs_events[f"shd_{key}"]) for key in ("T", "T_empty", "dt"))
    framing = Framing(T, "window", dt * 1000, origin=0, empty=empty)
    assert np.array_equal(read.frames(0, framing).counts[:, 0, 0].T, fs_events[name])
    assert read.labels.tolist() == [3]
