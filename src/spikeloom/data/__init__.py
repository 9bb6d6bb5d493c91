"""Data sets, their readers, augmentation on whole batches, and deterministic loading.

    data.load("mnist") -> DataSet(spec, train, test, mean, std)

A data set is a module of `sets` with a tuple `DATA_SETS` of `Source` objects; it is found by its
name. `events` holds what recordings need, `files` what every reader needs. This module stays free
of torch: a name below is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spikeloom.data.api import Source as Source
    from spikeloom.data.base import Batch as Batch
    from spikeloom.data.base import DataSet as DataSet
    from spikeloom.data.base import DataSpec as DataSpec
    from spikeloom.data.base import Split as Split
    from spikeloom.data.base import TensorSplit as TensorSplit
    from spikeloom.data.base import subset as subset
    from spikeloom.data.images.augment import Transform as Transform
    from spikeloom.data.images.augment import to_float as to_float
    from spikeloom.data.loader import Loader as Loader
    from spikeloom.data.registry import load as load
    from spikeloom.data.registry import names as names
    from spikeloom.data.registry import register as register
    from spikeloom.data.registry import source as source
    from spikeloom.data.split import split_per_class as split_per_class
    from spikeloom.data.survey import CheckReport as CheckReport
    from spikeloom.data.survey import check as check
    from spikeloom.data.survey import prepare as prepare

_HOMES = {
    "Batch": "base",
    "CheckReport": "survey",
    "DataSet": "base",
    "DataSpec": "base",
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


def __getattr__(name: str) -> object:
    if name == "__all__":
        return __dir__()
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
