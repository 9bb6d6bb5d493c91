"""Data sets, their readers, augmentation on whole batches, and deterministic loading.

    data.load("mnist") -> DataSet(spec, train, test, mean, std)

A data set is a module of `sets` with a tuple `DATA_SETS` of `Source` objects; it is found by its
name. `events` holds what recordings need, `files` what every reader needs. This module stays free
of torch: a name below is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spikeloom.data.api import Source
    from spikeloom.data.base import Batch, DataSet, Split, TensorSplit, subset
    from spikeloom.data.images.augment import Transform, to_float
    from spikeloom.data.loader import Loader
    from spikeloom.data.registry import load, names, register, source
    from spikeloom.data.spec import DataSpec
    from spikeloom.data.split import split_per_class
    from spikeloom.data.survey import CheckReport, check, prepare

_HOMES = {
    "Batch": "base",
    "CheckReport": "survey",
    "DataSet": "base",
    "DataSpec": "spec",
    "Loader": "loader",
    "Source": "api",
    "Split": "base",
    "TensorSplit": "base",
    "Transform": "images.augment",
    "check": "survey",
    "load": "registry",
    "names": "registry",
    "prepare": "survey",
    "register": "registry",
    "source": "registry",
    "split_per_class": "split",
    "subset": "base",
    "to_float": "images.augment",
}

__all__ = [
    "Batch",
    "CheckReport",
    "DataSet",
    "DataSpec",
    "Loader",
    "Source",
    "Split",
    "TensorSplit",
    "Transform",
    "check",
    "load",
    "names",
    "prepare",
    "register",
    "source",
    "split_per_class",
    "subset",
    "to_float",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
