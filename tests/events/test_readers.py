"""Readers meet damaged files: a `DataError`, never a crash, a hang, or a large allocation."""

import struct
import tracemalloc
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import event_files as make
from spikeloom.data.events.aedat import read_aedat2, read_aedat3
from spikeloom.data.events.array import Events, is_sorted
from spikeloom.data.events.atis import read_bin
from spikeloom.data.files.matlab import read_struct
from spikeloom.data.sets.dvsgesture import read_labels
from spikeloom.data.sets.dvsplane import active_part, read_mat
from spikeloom.data.sets.nmnist import read_stable_text, stabilised
from spikeloom.errors import DataError

rng = np.random.default_rng(0)
FIELDS = {
    "p": rng.choice([-1, 1], 300).astype(np.int16),
    "ts": np.sort(rng.integers(0, 9000, 300)).astype(np.float64),
    "x": rng.integers(1, 305, 300).astype(np.float64),
    "y": rng.integers(1, 241, 300).astype(np.float64),
}
COORDINATE = rng.integers(0, 128, 300)
GOOD = {
    "nmnist": (
        read_bin,
        np.stack([*rng.integers(0, 34, (2, 200)), *rng.integers(0, 256, (3, 200))], 1)
        .astype(np.uint8)
        .tobytes(),
    ),
    "aedat2": (read_aedat2, make.aedat2(np.arange(300), rng.integers(0, 1 << 15, 300))),
    "aedat3": (read_aedat3, make.aedat3(np.arange(300), COORDINATE, COORDINATE, COORDINATE & 1)),
    "mat5": (read_mat, make.mat_v5("TD", FIELDS)),
    "mat5 plain": (read_mat, make.mat_v5("TD", FIELDS, compressed=False)),
    "mat7.3": (read_mat, make.mat_v73("TD", FIELDS)),
    "stable text": (read_stable_text, b"1\t3\t7\n1157\t1\n2312\t100\t101\n"),
    "labels": (read_labels, b"class,start,end\n1,0,50\n11,60,70\n"),
}
names = st.sampled_from(sorted(GOOD))


def _read_or_refuse(name: str, data: bytes) -> None:
    read, _ = GOOD[name]
    try:
        result = read(data, source="damaged.file")
    except DataError as error:
        assert "damaged.file" in str(error)
        return
    if isinstance(result, Events):
        polarities, height, width = result.size
        for column, limit in ((result.x, width), (result.y, height), (result.p, polarities)):
            assert not column.size or 0 <= column.min() <= column.max() < limit


@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_is_read(name: str) -> None:
    read, data = GOOD[name]
    assert len(read(data)) > 0


@given(names, st.data())
@settings(max_examples=400, deadline=None)
def test_truncated_files(name: str, data: st.DataObject) -> None:
    good = GOOD[name][1]
    _read_or_refuse(name, good[: data.draw(st.integers(0, len(good) - 1))])


@given(names, st.data())
@settings(max_examples=600, deadline=None)
def test_flipped_bytes(name: str, data: st.DataObject) -> None:
    good = bytearray(GOOD[name][1])
    # headers are where damage hurts most
    near = st.integers(0, min(len(good), 400) - 1) | st.integers(0, len(good) - 1)
    for place, value in data.draw(st.lists(st.tuples(near, st.integers(0, 255)), max_size=4)):
        good[place] = value
    _read_or_refuse(name, bytes(good))


@given(names, st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_noise(name: str, noise: bytes) -> None:
    _read_or_refuse(name, noise)
    _read_or_refuse(name, GOOD[name][1][:60] + noise)


def _absurd_packet() -> bytes:
    claim = struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return make.TRIAL + claim + b"\0" * 64


@pytest.mark.parametrize(
    ("read", "data", "text"),
    [
        (read_aedat3, _absurd_packet(), "claims 4294967295 events"),
    ],
)
def test_absurd_sizes_allocate_nothing(read, data: bytes, text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=text):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("read", [read_bin, read_stable_text])
def test_an_empty_file_is_an_empty_recording(read) -> None:
    assert len(read(b"")) == 0


def test_a_trial_without_events_is_an_empty_recording() -> None:
    assert len(read_aedat3(make.TRIAL)) == 0
    assert len(read_aedat2(b"#!AER-DAT2.0\r\n")) == 0


def test_the_record_at_which_a_file_ends_is_named() -> None:
    with pytest.raises(DataError, match=r"x\.bin: 12 bytes.*after record 2"):
        read_bin(bytes(12), "x.bin")
    with pytest.raises(DataError, match=r"at byte \d+.*cut short"):
        read_aedat3(make.aedat3([1], [1], [1], [1])[:-3])


def test_times_may_be_unsorted_and_equal() -> None:
    recording = read_aedat2(make.aedat2([9, 3, 3, 1], [0, 2, 4, 6]))
    assert recording.t.tolist() == [9, 3, 3, 1] and not is_sorted(recording.t)
    assert recording.in_time_order().t.tolist() == [1, 3, 3, 9]
    assert recording.in_time_order().x.tolist() == [124, 126, 125, 127]


def test_the_second_axes_convention_transposes_the_picture() -> None:
    address = [(5 << 8) | (7 << 1)]
    one, other = (read_aedat2(make.aedat2([0], address), axes=axes) for axes in ("xy", "yx"))
    assert (one.x[0], one.y[0]) == (120, 5)
    assert (other.x[0], other.y[0]) == (122, 120)


def test_overflow_counters_extend_the_clock() -> None:
    data = bytearray(make.aedat3([5], [1], [2], [1]))
    data[len(make.TRIAL) + 12 : len(make.TRIAL) + 16] = struct.pack("<I", 3)
    assert read_aedat3(bytes(data)).t.tolist() == [5 + (3 << 31)]


@pytest.mark.parametrize("packed", [True, False])
def test_what_scipy_writes_is_read(packed: bool) -> None:
    io, file = pytest.importorskip("scipy.io"), BytesIO()
    several = {"other": np.arange(3), "TD": FIELDS | {"note": "a text"}}
    io.savemat(file, several, do_compression=packed)
    fields = read_struct(file.getvalue(), "TD")
    assert fields.keys() == FIELDS.keys()
    for name, values in FIELDS.items():
        assert np.array_equal(fields[name], values)


def test_a_struct_of_another_name_is_not_taken() -> None:
    with pytest.raises(DataError, match="no struct called TD"):
        read_struct(make.mat_v5("other", FIELDS), "TD")


def test_missing_fields_are_named() -> None:
    with pytest.raises(DataError, match="no ts, y"):
        read_mat(make.mat_v5("TD", {"p": FIELDS["p"], "x": FIELDS["x"]}))


def test_stabilising_takes_the_motion_of_the_camera_out() -> None:
    t = np.array([0, 105_000, 210_000, 315_000])
    drift_x, drift_y = [10, 13.5, 17, 10], [10, 17, 10, 10]
    rows = np.stack([np.floor(drift_x), np.floor(drift_y), t >> 16, (t >> 8) & 255, t & 255], 1)
    steady = stabilised(read_bin(rows.astype(np.uint8).tobytes()))
    assert steady.y.tolist() == [10, 10, 10, 10]
    assert np.abs(steady.x - 10).max() <= 1


def test_activity_clipping_survives_degenerate_recordings() -> None:
    for t in (np.zeros(0), np.arange(10), np.zeros(3000), np.arange(3000)):
        kept = active_part(t.astype(np.int64))
        assert 0 <= kept.start <= kept.stop <= len(t)
