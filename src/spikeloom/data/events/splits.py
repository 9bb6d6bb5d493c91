"""The recordings of a split, before they become frames.

Nothing here imports torch: the processes that prepare frames start in a fraction of a second.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from spikeloom.data.events.array import Events
from spikeloom.data.events.frames import Frames, Framing, integrate


class Recordings(ABC):
    """Recordings of one split, in the data set's order; picklable, and cheap until `read`.

    labels  class of every recording, int64 [N]
    size    (polarities, height, width) of the sensor
    sort    events are put into the order of time before they are counted
    """

    labels: npt.NDArray[np.int64]
    size: tuple[int, int, int]
    sort: bool = False

    @abstractmethod
    def fingerprint(self) -> str:
        """Equal as long as the files are."""

    @abstractmethod
    def title(self, index: int) -> str:
        """Where recording `index` comes from, for people."""

    @abstractmethod
    def read(self, index: int) -> Events:
        """Recording `index`. Raises `DataError` naming the file and what is wrong with it."""

    def frames(self, index: int, framing: Framing) -> Frames:
        """Recording `index` as frames; a data set may have a rule of its own."""
        recording = self.read(index)
        ordered = recording.in_time_order() if self.sort else recording
        frames = integrate(ordered, framing)
        return frames if ordered is recording else replace(frames, in_order=False)


@dataclass(frozen=True)
class Pair:
    """The two splits of a data set; `notes` are facts that a reader of results must know.

    `classes` are the names in label order, where the files tell them.
    """

    train: Recordings
    test: Recordings
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    classes: tuple[str, ...] = field(default=(), kw_only=True)
