"""A picture that a method adds to a report, as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """Curves over a common axis: `curves[name][i]` is drawn at x = `start` + i.

    `title` and `note` stand above it; `x` and `y` name the axes, with units; `log` draws y
    logarithmically, if all values are positive.
    """

    title: str
    x: str
    y: str
    curves: Mapping[str, Sequence[float]]
    note: str = ""
    start: int = 0
    log: bool = False
