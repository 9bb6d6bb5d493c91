"""Pickled dictionaries of numbers, texts and byte arrays.

The Python form of the standard library's unpickler: the one in C, and NumPy's own `__setstate__`,
crash the process on some damaged files. `find_class` knows the few names by which arrays and
Python 2 strings are stored and gives stand-ins for them, so no code of a file is ever called. Check
sums are the business of `data get` and `data check`.
"""

import io
import pickle
from typing import Any

import numpy as np

from spikeloom.data.files.archive import first_line
from spikeloom.errors import DataError


class _DType:
    """What is stored of a NumPy type of numbers: its text, then its byte order."""

    def __init__(self, text: Any, *_: object) -> None:
        text = text.decode() if isinstance(text, bytes) else text
        self.dtype = np.dtype(text)
        if self.dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"it holds values of type {text}, which are no numbers")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order: Any = state[1].decode() if isinstance(state[1], bytes) else state[1]
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """What is stored of an array: version, shape, type, order, bytes."""

    values: np.ndarray[Any, Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        values = np.frombuffer(data, kind.dtype).copy()  # of its own, so that it can be written to
        self.values = values.reshape(shape, order="F" if fortran else "C")


def _from_buffer(data: Any, kind: _DType, shape: Any, order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, kind, order == "F", data))
    return array


def _to_bytes(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it holds bytes as text in {encoding}, not latin1")
    return text.encode("latin1")


_NAMES = {
    ("_codecs", "encode"): _to_bytes,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
}


class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = (module.replace("numpy._core", "numpy.core"), name)
        if known not in _NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no plain data")
        return _NAMES[known]


def read_pickle(data: bytes, name: str) -> object:
    """The object that is pickled in `data`; Python 2 strings are bytes.

    Raises `DataError`, which begins with `name`, for what is damaged or no plain data.
    """
    file = io.BytesIO(data)
    try:
        value = _plain(_Unpickler(file, encoding="bytes").load())
        if file.tell() != len(data):
            raise pickle.UnpicklingError("bytes go on after the end of the pickle")
    except Exception as error:  # a damaged pickle raises whatever its numbers lead to
        raise DataError(
            f"{name}: the pickle is damaged or holds other than numbers, texts and arrays "
            f"({first_line(error)}): fetch the file again"
        ) from error
    return value


def _plain(value: Any) -> Any:
    """`value` with arrays in place of what stands for them."""
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return value.values if isinstance(value, _Array) else value
