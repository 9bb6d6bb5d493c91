"""Pickled dictionaries of numbers, texts and byte arrays, with the pickle of the standard library.

`find_class` knows six names, by which numpy arrays and Python 2 strings are stored, so no other
code of a file is ever called. Check sums are the business of `data get` and `data check`.
"""

import io
import pickle

from spikeloom.errors import DataError

_NAMES = {
    ("_codecs", "encode"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no plain data")
        # what NumPy 1 wrote as numpy.core is numpy._core since NumPy 2
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_pickle(data: bytes, name: str) -> object:
    """The object that is pickled in `data`; Python 2 strings are bytes.

    Raises `DataError`, which begins with `name`, for what is damaged or no plain data.
    """
    file = io.BytesIO(data)
    try:
        value = _Unpickler(file, encoding="bytes").load()
        if file.tell() != len(data):
            raise pickle.UnpicklingError("bytes go on after the end of the pickle")
    except Exception as error:  # a damaged pickle raises whatever its numbers lead to
        text = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{name}: the pickle is damaged or holds other than numbers, texts and arrays "
            f"({text[:200]}): fetch the file again"
        ) from error
    return value
