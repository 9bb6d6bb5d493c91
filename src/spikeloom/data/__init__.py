"""Data sets, their readers, augmentation on whole batches, and deterministic loading.

    data.load("mnist") -> DataSet(spec, train, test, mean, std)

A data set is a module of `sets` with a tuple `DATA_SETS` of `Source` objects; it is found by its
name. `events` holds what recordings need, `files` what every reader needs. This module stays free
of torch: a name below is imported when it is first used.
"""

from typing import TYPE_CHECKING

from spikeloom import lazy

if TYPE_CHECKING:
    from spikeloom.data.api import Source as Source
    from spikeloom.data.base import Batch as Batch
    from spikeloom.data.base import DataSet as DataSet
    from spikeloom.data.base import DataSpec as DataSpec
    from spikeloom.data.base import Split as Split
    from spikeloom.data.base import TensorSplit as TensorSplit
    from spikeloom.data.base import split_per_class as split_per_class
    from spikeloom.data.base import subset as subset
    from spikeloom.data.images.augment import Transform as Transform
    from spikeloom.data.images.augment import to_float as to_float
    from spikeloom.data.loader import Loader as Loader
    from spikeloom.data.registry import load as load
    from spikeloom.data.registry import names as names
    from spikeloom.data.registry import register as register
    from spikeloom.data.registry import source as source
    from spikeloom.data.survey import CheckReport as CheckReport
    from spikeloom.data.survey import check as check
    from spikeloom.data.survey import prepare as prepare

__getattr__, __dir__ = lazy.names(__name__)
