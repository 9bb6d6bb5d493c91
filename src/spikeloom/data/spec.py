"""What a network needs to know about a data set before it is built."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DataSpec:
    """Shape and meaning of one sample.

    `shape` is one sample without time and batch: `(channels, height, width)` for images and frames.
    `kind` is "static" (an image, presented at every time step) or "events" (frames `[T, B,
    *shape]`).
    """

    name: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    kind: Literal["static", "events"] = "static"

    @property
    def class_count(self) -> int:
        return len(self.classes)
