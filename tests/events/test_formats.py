"""Recordings of one's own in every format, written by the publishers' or peers' own packages, are
read event for event equal."""

import io
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import event_files as make
from spikeloom.data.events.formats import Meaning, decode, guess_unit, read_columns, understood
from spikeloom.data.events.prophesee import evt3
from spikeloom.errors import DataError

DTYPE = [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1")]


def made(count: int = 3000, size: tuple[int, int] = (480, 640), last: int = 40_000_000):
    """A structured array of events in time order, whose clock wraps that of EVT3 twice."""
    draw = np.random.default_rng(5)
    rows = np.zeros(count, DTYPE)
    rows["t"] = np.sort(draw.integers(0, last, count))
    rows["y"], rows["x"] = draw.integers(0, size[0], count), draw.integers(0, size[1], count)
    rows["p"] = draw.integers(0, 2, count)
    return rows


ROWS = made()


def equal(data: bytes, name: str, rows: np.ndarray = ROWS, order: str = "") -> None:
    columns = read_columns(data, name, order)
    for key in "txyp":
        assert np.array_equal(getattr(columns, key), rows[key]), key


@pytest.mark.parametrize(("encoding", "suffix"), [("evt2", ".raw"), ("dat", ".dat")])
def test_prophesee_files_of_expelliarmus(tmp_path: Path, encoding: str, suffix: str) -> None:
    expelliarmus = pytest.importorskip("expelliarmus")
    path = tmp_path / f"a{suffix}"
    expelliarmus.Wizard(encoding=encoding).save(path, ROWS)
    equal(path.read_bytes(), path.name)


@pytest.mark.parametrize("version", ["evt2", "evt3", "dat2"])
def test_prophesee_files_of_faery(tmp_path: Path, version: str) -> None:
    """It writes times less that of the first event, which stands in a line of its own."""
    faery = pytest.importorskip("faery")
    path = tmp_path / ("a.dat" if version == "dat2" else "a.raw")
    rows = np.zeros(len(ROWS), faery.EVENTS_DTYPE)
    for ours, theirs in zip("txyp", rows.dtype.names, strict=True):
        rows[theirs] = ROWS[ours]
    faery.events_stream_from_array(rows, (640, 480)).to_file(path, version=version)
    moved = ROWS.copy()
    moved["t"] -= ROWS["t"][0]
    equal(path.read_bytes(), path.name, moved)
    assert read_columns(path.read_bytes(), path.name).size == (480, 640)


def evt3_words(rows: np.ndarray) -> np.ndarray:
    """EVT3 as its specification says: every word told anew, single events and vectors of 12."""
    words: list[int] = []
    for number, (t, x, y, p) in enumerate(rows.tolist()):
        words += [0x8000 | (t >> 12 & 0xFFF), 0x6000 | (t & 0xFFF), y]
        if number % 3:
            words.append(0x2000 | p << 11 | x)
        else:
            words += [0x3000 | p << 11 | max(x - 5, 0), 0x4000 | 1 << min(x, 5)]
        if number % 7 == 0:
            words += [0xE000, 0x7123, 0xA001]  # other words are passed over
    return np.array(words, "<u2")


def test_evt3_by_its_specification() -> None:
    t, x, y, p = evt3(evt3_words(ROWS))
    for ours, key in ((t, "t"), (x, "x"), (y, "y"), (p, "p")):
        assert np.array_equal(ours, ROWS[key]), key


def test_vectors_of_evt3_go_on_where_the_last_ended() -> None:
    words = [0x8001, 0x6002, 0x0007, 0x3000 | 1 << 11 | 20, 0x4000 | 0b101, 0x5000 | 0b10, 0x8002]
    t, x, y, p = evt3(np.array([*words, 0x2005], "<u2"))
    assert x.tolist() == [20, 22, 33, 5] and y.tolist() == [7] * 4 and p.tolist() == [1, 1, 1, 0]
    assert t.tolist() == [4098] * 3 + [8192]  # a new upper part begins at 0


@pytest.mark.parametrize("legacy", [False, True])
def test_evt21_by_its_specification(legacy: bool) -> None:
    rows = made(500, last=1 << 33)
    words: list[int] = []
    for t, x, y, p in rows.tolist():
        words.append(8 << 60 | (t >> 6) << 32)
        first = x & ~31
        words.append(p << 60 | (t & 63) << 54 | first << 43 | y << 32 | 1 << (x - first))
    body = np.array(words, "<u8")
    head = b"% evt 2.1\n% end\n"
    if legacy:
        body = (body << np.uint64(32)) | (body >> np.uint64(32))
    else:
        head = b"% format EVT21;endianness=little;height=480;width=640\n% end\n"
    equal(head + body.tobytes(), "a.raw", rows)
    assert legacy or read_columns(head, "a.raw").size == (480, 640)


def test_aedat4_of_dv_processing(tmp_path: Path) -> None:
    dv = pytest.importorskip("dv_processing")
    pytest.importorskip("aedat")
    path = str(tmp_path / "a.aedat4")
    store = dv.EventStore()
    for t, x, y, p in ROWS.tolist():
        store.push_back(t, x, y, bool(p))
    config = dv.io.MonoCameraWriter.EventOnlyConfig("TEST", (640, 480))
    writer = dv.io.MonoCameraWriter(path, config)
    writer.writeEvents(store)
    del writer
    columns = read_columns(Path(path).read_bytes(), path)
    assert columns.size == (480, 640)
    for key in "txyp":
        assert np.array_equal(getattr(columns, key), ROWS[key]), key


def text(rows: np.ndarray, head: str, separator: str) -> bytes:
    out = io.StringIO()
    if head:
        out.write(head + "\n")
    for row in rows.tolist():
        out.write(separator.join(map(str, row)) + "\n")
    return out.getvalue().encode()


@pytest.mark.parametrize(
    ("head", "separator"), [("t,x,y,p", ","), ("# t x y p", " "), ("", " "), ("640 480", " ")]
)
def test_text(head: str, separator: str) -> None:
    data = text(ROWS, head, separator)
    equal(data, "a.csv")
    equal(b"\xef\xbb\xbf" + data, "a.txt")  # a byte order mark
    size = read_columns(data, "a.txt").size
    assert size == ((480, 640) if head == "640 480" else None)


def test_numpy_files() -> None:
    plain = np.stack([ROWS[key] for key in "txyp"], 1)
    turned = np.stack([ROWS[key] for key in "xytp"], 1)
    for array in (ROWS, plain, turned):
        out = io.BytesIO()
        np.save(out, array)
        equal(out.getvalue(), "a.npy")
    out = io.BytesIO()
    np.savez(out, ts=ROWS["t"], xs=ROWS["x"], ys=ROWS["y"], ps=ROWS["p"])
    equal(out.getvalue(), "a.npz")
    out = io.BytesIO()
    np.save(out, plain)
    columns = read_columns(out.getvalue(), "a.npy", "pyxt")
    assert np.array_equal(columns.p, ROWS["t"])  # as the user says


@pytest.mark.parametrize("layout", ["metavision", "rpg", "tonic", "rows"])
def test_hdf5_layouts(layout: str) -> None:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        if layout == "metavision":
            file["CD/events"] = ROWS
            file.attrs["geometry"] = "640x480"
        elif layout == "rpg":
            for key in "txyp":
                file[f"events/{key}s"] = ROWS[key]
        elif layout == "tonic":
            file["data/0"] = ROWS
        else:
            file["events"] = np.stack([ROWS[key] for key in "txyp"], 1)
    equal(out.getvalue(), "a.h5")
    assert read_columns(out.getvalue(), "a.h5").size == (
        (480, 640) if layout == "metavision" else None
    )


def test_aedat_of_other_cameras() -> None:
    rows = made(100, (180, 240))
    words = [rows[key].astype(np.int64) for key in "txyp"]
    equal(make.aedat3(*words), "a.aedat", rows)
    address = (rows["y"].astype(np.int64) << 22) | (rows["x"].astype(np.int64) << 12)
    address |= rows["p"].astype(np.int64) << 11
    trial = make.aedat2(np.append(rows["t"], 7), np.append(address, 1 << 31))
    equal(trial, "a.aedat", rows)  # without the sample of a picture
    with pytest.raises(DataError, match="another version"):
        read_columns(b"#!AER-DAT1.0\r\n", "a.aedat")


SIZE = Meaning((2, 480, 640))


@pytest.mark.parametrize(
    ("t", "unit", "us"),
    [
        ([0.5, 0.500001], "s", [0, 1]),
        ([1e3 + 0.5, 1e3 + 0.75], "s", [0, 250_000]),
        ([17, 20], "us", [0, 3]),
        ([1_700_000_000_000_000_000, 1_700_000_000_000_009_000], "ns", [0, 9]),
    ],
)
def test_units_are_guessed_from_the_values(t, unit: str, us) -> None:
    out = io.BytesIO()
    np.save(out, np.rec.fromarrays([t, [0, 1], [0, 1], [1, 0]], names="t,x,y,p"))
    columns = read_columns(out.getvalue(), "a.npy")
    assert guess_unit([columns])[0] == unit
    assert understood(columns, Meaning((2, 9, 9), unit), "a").t.tolist() == us


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("nan,1,1,1", "record 1 has t = nan"),
        ("1,1.5,1,1", "record 1 has x = 1.5, expected a whole number"),
        ("1,700,1,1", "record 1 has x = 700, expected 0 to 639"),
        ("1,1,1,2", "record 1 has polarity 2"),
    ],
)
def test_impossible_records_are_named(row: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode(f"t,x,y,p\n0,0,0,0\n{row}\n".encode(), "a.csv", meaning=SIZE)


def test_an_archive_of_no_arrays_is_refused() -> None:
    out = io.BytesIO()
    np.savez(out)
    with pytest.raises(DataError, match=r"a\.npz: no column t or x among none"):
        read_columns(out.getvalue(), "a.npz")


def test_polarity_of_minus_one_is_off_and_may_be_swapped_or_merged() -> None:
    data = b"t,x,y,p\n0,0,0,-1\n5,1,1,1\n"
    for how, size, p in (("both", 2, [0, 1]), ("swapped", 2, [1, 0]), ("merged", 1, [0, 0])):
        recording = decode(data, "a.csv", meaning=Meaning((size, 4, 4), polarity=how))
        assert recording.p.tolist() == p


def _good() -> dict[str, bytes]:
    few = made(40, (34, 34), 90_000)
    h5, npy = io.BytesIO(), io.BytesIO()
    with h5py.File(h5, "w") as file:
        file["CD/events"] = few
    np.save(npy, few)
    body = np.array([8 << 28, 1 << 28 | 5 << 11 | 3], "<u4").tobytes()
    return {
        "a.h5": h5.getvalue(),
        "a.npy": npy.getvalue(),
        "a.csv": text(few, "t,x,y,p", ","),
        "a.raw": b"% evt 2.0\n% end\n" + body * 9,
        "b.raw": b"% evt 3.0\n% end\n" + evt3_words(few).tobytes(),
        "a.dat": b"% Version 2\n\x0c\x08" + body * 9,
        "a.aedat": make.aedat3(few["t"], few["x"], few["y"], few["p"]),
    }


GOOD = _good()


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_damaged_files_are_refused_or_read(name: str, data: st.DataObject) -> None:
    content = bytearray(GOOD[name])
    places = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    for place, value in data.draw(st.lists(places, max_size=4)):
        content[place] = value
    content = content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]
    try:
        recording = decode(bytes(content), name, meaning=Meaning((2, 128, 128)))
    except DataError as error:
        assert name in str(error) and "\n" not in str(error)
        return
    assert len(recording) == 0 or 0 <= recording.x.min() <= recording.x.max() < 128
