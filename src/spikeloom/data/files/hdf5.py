"""Shared ground of the HDF5 layouts: open a file once per process, and name the file in every
error.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikeloom.data.files.archive import BROKEN, advice, first_line, stamp
from spikeloom.errors import DataError

_LOCKED = "another program has it open: close that, or set HDF5_USE_FILE_LOCKING=FALSE"


@contextmanager
def reading(source: object, content: str) -> Iterator[None]:
    """Turns whatever a reader raises on damaged or foreign content into a `DataError`."""
    try:
        yield
    except DataError:
        raise
    except BROKEN as error:
        text = first_line(error)
        hint = "the file is damaged or of another layout"
        if getattr(error, "errno", None):
            hint = advice(error)
        elif "unable to lock file" in text.lower():
            hint = _LOCKED
        raise DataError(f"{source}: {content} cannot be read ({text}); {hint}") from error


def opened(path: Path) -> Any:
    """The `h5py.File` at `path`, open for reading; the last few stay open in each process."""
    with reading(path, "the file"):
        return _opened(path, stamp(path), os.getpid())


def column(node: Any, name: str, source: object) -> npt.NDArray[Any]:
    """A data set of numbers, whole; refused if it claims more than the file holds."""
    with reading(source, name):
        dataset = node[name]
        # a deflated byte stands for at most 1,032; without compression, what is claimed must be
        # there
        there = dataset.id.get_storage_size() * (1032 if dataset.compression else 1)
        if np.prod(dataset.shape, dtype=np.float64) * dataset.dtype.itemsize > there:
            raise DataError(
                f"{source}: {name} claims {dataset.shape} values of {dataset.dtype}, "
                f"{dataset.id.get_storage_size()} bytes are there; the file is damaged"
            )
        values = np.asarray(dataset[()])
    if values.dtype.kind not in "iuf":
        raise DataError(f"{source}: {name} holds {values.dtype}, expected numbers")
    return values


@lru_cache(maxsize=4)
def _opened(path: Path, stamp: str, process: int) -> Any:
    del stamp, process  # in the key: a changed file and another process open it anew
    import h5py

    return h5py.File(path, "r")
