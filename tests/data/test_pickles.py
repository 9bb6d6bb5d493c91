"""Pickled batches are read as pickle reads them; whatever names other code is refused."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from publishers import python2_pickle, python3_pickle, sample

from damage import damaged
from spikeloom.data.files.pickles import read_pickle
from spikeloom.errors import DataError


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("fortran", [False, True])
def test_arrays_of_bytes_are_read(protocol: int, fortran: bool) -> None:
    array = np.random.default_rng(0).integers(0, 256, (3, 5), dtype=np.uint8)
    array = np.asfortranarray(array) if fortran else array
    read = read_pickle(pickle.dumps({"a": [array, 3, "x"]}, protocol), "file")
    assert isinstance(read, dict)
    (values,) = read.values()
    assert np.array_equal(values[0], array) and values[1] == 3


def test_a_batch_of_python_2_has_strings_of_bytes() -> None:
    images, labels = sample(3, (3, 32, 32))
    read = read_pickle(python2_pickle(images, labels), "file")
    assert isinstance(read, dict) and read[b"labels"] == labels.tolist()
    assert np.array_equal(read[b"data"].reshape(images.shape), images)


class _Run:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1 / 0",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_is_named_and_not_run(protocol: int) -> None:
    with pytest.raises(DataError, match=r"^some/file: .*it names (__builtin__|builtins)\.eval"):
        read_pickle(pickle.dumps(_Run(), protocol), "some/file")


@pytest.mark.parametrize(
    "name", ["os.system", "numpy.load", "numpy.core.multiarray.scalar", "numpy.f2py.crackfortran"]
)
def test_no_other_name_is_looked_up(name: str) -> None:
    module, _, of = name.rpartition(".")
    content = f"c{module}\n{of}\n.".encode()
    with pytest.raises(DataError, match="is no plain data"):
        read_pickle(content, "file")


@pytest.mark.parametrize("content", [b"", b"\x80\x02}", b"\x80\x02e.", b"\x80\x02N.N", b"x"])
def test_a_damaged_pickle_is_named(content: bytes) -> None:
    with pytest.raises(DataError, match="the pickle is damaged") as caught:
        read_pickle(content, "file")
    assert str(caught.value).startswith("file: ") and "\n" not in str(caught.value)


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
        assert str(error).startswith("file: ") and "\n" not in str(error)
