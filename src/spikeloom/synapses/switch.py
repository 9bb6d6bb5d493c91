"""Whether a layer works on its active inputs or on all of them.

Both costs are estimated, and the cheaper way is taken. The estimates depend on the shape, the
number of active inputs, the dtype, and nothing that is measured while a program runs: two runs, or
a run and its resumption, choose alike. The constants are a fit to the measured map of density and
shape (`docs/sparse.md`).

    sparse = call + listing * elements + rows * (row + vector * vectors of a row)
             + outputs * output + weights * weight
    dense  = products * product
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Mode = Literal["auto", "on", "off"]


class Cost(NamedTuple):
    """Nanoseconds on one thread; `product` in picoseconds."""

    row: float
    vector: float
    output: float
    product: float


CALL = 150_000.0
"""Of a sparse layer before it works, in ns; a dense product this short is not even counted."""

LISTING = 0.5
"""Of counting and listing, per element of the input."""

_FORWARD = {
    torch.float32: Cost(0.6, 0.64, 1.0, 17.0),
    torch.float64: Cost(0.6, 0.64, 2.0, 34.0),
    torch.bfloat16: Cost(0.6, 0.64, 1.0, 8.0),
}
_WEIGHT = {
    torch.float32: Cost(1.5, 0.7, 0.0, 17.5),
    torch.float64: Cost(1.5, 0.7, 0.0, 35.0),
    torch.bfloat16: Cost(1.5, 0.7, 0.0, 8.5),
}
TURNING = {"conv": (1.2, 2.5), "linear": (0.4, 0.6)}
"""Of bringing a weight into the order of the kernels, and a gradient out of it."""


@dataclass(frozen=True)
class Work:
    """What a layer does in one call.

    `elements` of its input, of which `active` are not zero; each meets `meetings` rows of
    `features` weights; `outputs` values come out and `products` are made if all inputs count.
    `weights`: how many there are.
    """

    kind: Literal["conv", "linear"]
    elements: int
    meetings: float
    features: int
    outputs: int
    products: float
    weights: int
    dtype: torch.dtype


class SparseParts(NamedTuple):
    """What is done sparsely."""

    forward: bool
    weight: bool


def seems_small(work: Work) -> bool:
    """Whether the dense product costs so little that counting would not pay."""
    return work.products * _FORWARD[work.dtype].product < 1000 * CALL


def choose(work: Work, active: int, mode: Literal["auto", "on"], gradient: bool) -> SparseParts:
    """`gradient`: whether that of the weights will be asked for."""
    if mode == "on":
        return SparseParts(True, gradient)
    turning = [each * work.weights for each in TURNING[work.kind]]
    forward = _gain(_FORWARD[work.dtype], work, active) - turning[0]
    weight = _gain(_WEIGHT[work.dtype], work, active) - turning[1] if gradient else 0.0
    if max(forward, 0.0) + max(weight, 0.0) <= CALL + LISTING * work.elements:
        return SparseParts(False, False)
    return SparseParts(forward > 0, weight > 0)


def _gain(cost: Cost, work: Work, active: int) -> float:
    vectors = math.ceil(work.features / (8 if work.dtype == torch.float64 else 16))
    rows = active * work.meetings
    sparse = rows * (cost.row + cost.vector * vectors) + cost.output * work.outputs
    return work.products * cost.product / 1000 - sparse


@dataclass(frozen=True)
class Decision:
    """One layer in one call: what it was given, and what ran."""

    kind: str
    weight: int
    """`id` of the parameter."""
    shape: tuple[int, ...]
    density: float | None
    forward: str
    """`sparse` or `dense`."""
    gradient: str
    """`sparse`, `dense`, or `-` where none will be asked for."""
    reason: str


class _Setting:
    """Of the process: see `sparse`."""

    mode: Mode = "auto"


setting = _Setting()
records: ContextVar[list[Decision] | None] = ContextVar("records", default=None)
"""Where decisions are collected; None: they are not."""


class sparse:
    """How synapses on a CPU treat inputs that are zero, from here on: `sl.sparse("off")`.

    `"auto"` (as it is unless something is said): each layer in each call works on its active inputs
    where that is faster by the measured map. `"on"`: wherever it can. `"off"`: never, torch's own
    products. It holds for the whole process; as a context manager, `with sl.sparse("off"):`, until
    the block ends.
    Raises `ValueError` for another word.
    """

    def __init__(self, mode: Mode) -> None:
        if mode not in ("auto", "on", "off"):
            raise ValueError(f"sparse({mode!r}): expected 'auto', 'on', or 'off'")
        self._before: Mode = setting.mode
        setting.mode = mode

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        setting.mode = self._before


@contextmanager
def recording() -> Iterator[list[Decision]]:
    """Collects the decisions of the calls in the block."""
    collected: list[Decision] = []
    token = records.set(collected)
    try:
        yield collected
    finally:
        records.reset(token)


def record_counts(kind: str, weight: Tensor, shape: tuple[int, int], counts: Iterable[int]) -> None:
    """That a layer with fixed weights worked on so many active inputs of each row."""
    collected = records.get()
    if collected is not None:
        density = float(sum(counts)) / math.prod(shape)
        why = "fixed weights"
        collected.append(Decision(kind, id(weight), shape, density, "sparse", "-", why))
