"""Pickled plain data is read as pickle reads it; everything else is refused, cheaply."""

import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from publishers import python2_pickle, python3_pickle, sample

from damage import damaged
from spikeloom.data.files import pickles
from spikeloom.data.files.pickles import PickledArray, read_pickle
from spikeloom.errors import DataError

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.binary(), inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
    ),
    max_leaves=10,
)


@given(value=PLAIN, protocol=st.integers(2, 5))
def test_plain_data_is_read_as_pickle_reads_it(value: object, protocol: int) -> None:
    assert read_pickle(pickle.dumps(value, protocol), "file") == value


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("shape", [(0,), (7,), (3, 5), (2, 3, 4)])
def test_arrays_of_bytes_are_read(protocol: int, fortran: bool, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    if fortran:
        array = np.asfortranarray(array)
    read = read_pickle(pickle.dumps(array, protocol), "file")
    assert isinstance(read, PickledArray)
    assert np.array_equal(read.view(), array)


def test_made_python_2_batch_is_what_pickle_reads_from_it() -> None:
    """So the maker of the tests writes what it claims."""
    images, labels = sample(3, (3, 32, 32))
    content = python2_pickle(images, labels)
    theirs = pickle.loads(content, encoding="bytes")
    ours = read_pickle(content, "file")
    assert isinstance(ours, dict) and theirs.keys() == ours.keys()
    assert theirs[b"filenames"] == ours[b"filenames"] and theirs[b"labels"] == ours[b"labels"]
    assert np.array_equal(theirs[b"data"], ours[b"data"].view())


class _Run:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1 / 0",)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "value, message",
    [
        (_Run(), r"byte \d+: '(__builtin__|builtins)\.eval' is called"),
        (np.zeros(3), r"byte \d+: an array of another dtype than unsigned bytes \(u1\)"),
        (np.array([None]), r"byte \d+: an array of another dtype"),
        ({(1, 2): 3}, r"byte \d+: a dictionary key is of type tuple"),
        ({1, 2}, r"byte \d+: "),
    ],
)
def test_other_objects_are_refused(value: object, message: str, protocol: int) -> None:
    with pytest.raises(DataError, match=f"^some/file: {message}.*, expected a pickle of numbers"):
        read_pickle(pickle.dumps(value, protocol), "some/file")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "byte 0: the pickle is cut short"),
        (b"\x80\x02}", "byte 3: the pickle is cut short"),
        (b"\x80\x02.", "byte 3: the pickle is cut short"),
        (b"\x80\x02e.", "byte 2: the pickle is cut short"),
        (b"\x80\x02N.N", "byte 4: bytes go on after the end"),
        (b"\x80\x02h\x05.", "byte 2: nothing is remembered under 5"),
        (b"\x80\x02Na.", "byte 3: the pickle is cut short"),
        (b"\x80\x02NNa.", "byte 4: something is appended to what is not a list"),
        (b"\x80\x02NK\x01NK\x01s.", "byte 8: a key is set in what is not a dictionary"),
        (b"\x80\x02NN\x93.", "byte 4: a name is not a text"),
        (b"\x80\x02NNR.", "byte 4: something that is not a function is called"),
        (b"\x80\x02NNb.", "byte 4: an object's state is set"),
        (b"\x80\x02X\x01\x00\x00\x00\xff.", "byte 2: a text is not in the encoding"),
        (b"\x80\x02cnumpy", "byte 2: a name has no end"),
        (b"I1\n.", "byte 0: opcode 0x49 is not one that plain data needs"),
    ],
)
def test_garbled_pickle_is_named(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_pickle(content, "file")
    assert "\n" not in str(caught.value)


def _bombs() -> dict[str, bytes]:
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x00"
    encode = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    nested = b"\x80\x02N" + b"q\x00h\x00\x86" * 200
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
        b"(K\x01\x8a\x06\xff\xff\xff\xff\xff\x00\x85cnumpy\ndtype\nC\x02u1K\x00K\x01\x87R\x89C\x00tb."
    )
    return {
        "memo index": b"\x80\x02Nr\xff\xff\xff\xff.",
        "length of bytes": b"\x80\x02B\xff\xff\xff\xff.",
        "length of text": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x00.",
        "encoded again and again": b"\x80\x02" + text + encode * 1000 + b".",
        "nested shared tuples as a key": b"\x80\x02}" + nested[2:] + b"Ns.",
        "nested shared tuples as a name": nested + b"N\x93.",
        "nested shared tuples as a dtype": b"\x80\x02cnumpy\ndtype\n" + nested[2:] + b"R.",
        "size of an array": b"\x80\x02" + array,
    }


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", [*_bombs()])
def test_hostile_pickle_costs_neither_time_nor_memory(name: str) -> None:
    content = _bombs()[name]
    tracemalloc.start()
    try:
        if name == "memo index":
            # Harmless here; pickle itself takes 64 GB for it.
            assert read_pickle(content, "file") is None
        else:
            with pytest.raises(DataError):
                read_pickle(content, "file")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_number_of_operations_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "_MOST_OPERATIONS", 1000)
    assert read_pickle(b"\x80\x02" + b"N" * 998 + b".", "file") is None
    with pytest.raises(DataError, match="byte 1,001: more than 1,000 operations"):
        read_pickle(b"\x80\x02" + b"N" * 999 + b".", "file")


@settings(max_examples=300, deadline=None)
@given(
    content=st.sampled_from((2, 3, 4, 5)).flatmap(
        lambda protocol: damaged(python3_pickle(*sample(3, (2,)), protocol=protocol))
    )
)
def test_fuzzed_pickle_is_read_or_refused(content: bytes) -> None:
    try:
        read_pickle(content, "file")
    except DataError as error:
        assert str(error).startswith("file: byte ") and "\n" not in str(error)
