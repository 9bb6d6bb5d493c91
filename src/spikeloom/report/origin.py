"""A run that started from another one: how good it was before training, and what it came from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spikeloom.errors import SpikeloomError

if TYPE_CHECKING:
    from spikeloom.nn.classifier import Classifier

Pass = Callable[["Classifier"], tuple[tuple[float, ...], float]]
"""Accuracy after 1..T time steps (empty without votes), and accuracy, of a network on samples."""


@dataclass(frozen=True)
class Origin:
    """`latency`: accuracy after 1..T steps before training; `accuracy` at the end of them.
    `source`: the run or file it started from, and `source_accuracy` of the network there, None
    if it is no run folder. `missing` instead of all figures: why they could not be taken.
    """

    source: str
    latency: tuple[float, ...] = ()
    accuracy: float = 0.0
    source_accuracy: float | None = None
    missing: str = ""


def examine_origin(fresh: "Classifier", measure: Pass) -> Origin | None:
    """`fresh`: the network as the recipe builds it. None if it starts from nothing."""
    source = fresh.starts_from
    if source is None:
        return None
    try:
        fresh.start()
        latency, accuracy = measure(fresh.eval())
        return Origin(source, latency, accuracy, _accuracy_of(Path(source), measure))
    except SpikeloomError as error:
        return Origin(source, missing=str(error))


def _accuracy_of(source: Path, measure: Pass) -> float | None:
    from spikeloom.evaluation.evaluation import load_run

    if not source.is_dir():
        return None
    return measure(load_run(source).classifier)[1]
