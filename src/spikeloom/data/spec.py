"""What a network needs to know about a data set before it is built."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DataSpec:
    """Shape and meaning of one sample.

    `shape` is one sample without time and batch: `(channels, height, width)` for images and frames.
    `kind` is "static" (an image, presented at every time step) or "events" (frames `[T, B,
    *shape]`). `targets`: of a regression, the number of real values to be told of a sample; there
    are no `classes` then, and labels are float32 `[N, targets]`.
    """

    name: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    kind: Literal["static", "events"] = "static"
    targets: int = 0

    @property
    def class_count(self) -> int:
        """The scores of a sample: one for each class, or each target of a regression."""
        return self.targets or len(self.classes)
