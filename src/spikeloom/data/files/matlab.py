"""Structs of numbers in MATLAB's .mat files: version 5 with scipy (extra "mat"), 7.3 with h5py."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from spikeloom.data.files.hdf5 import column, reading
from spikeloom.errors import DataError

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def read_struct(data: bytes, name: str, source: object = "MAT data") -> dict[str, npt.NDArray[Any]]:
    """The numeric fields of the struct called `name`, each flattened in column order.

    Raises `DataError` if the file is damaged, or has no such struct.
    """
    if HDF5_MAGIC in data[:1024]:
        import h5py

        with reading(source, f"struct {name}"), h5py.File(io.BytesIO(data), "r") as file:
            group: Any = file[name]
            return {field: column(group, field, source).reshape(-1) for field in group}
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DataError(f"{source}: .mat files need scipy: pip install 'spikeloom[mat]'") from error
    try:
        struct = loadmat(io.BytesIO(data), variable_names=[name])[name]
        fields = {field: np.asarray(struct[0, 0][field]) for field in struct.dtype.names}
    except Exception as error:  # scipy raises whatever a damaged file leads to
        text = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{source}: no struct called {name} can be read ({text[:200]}); the file is damaged or "
            "of another layout"
        ) from error
    return {
        field: values.reshape(-1, order="F")
        for field, values in fields.items()
        if values.dtype.kind in "iufb"
    }
