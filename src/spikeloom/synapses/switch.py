"""Whether a layer works on its active inputs or on all of them.

Both costs are estimated, and the cheaper way is taken. The estimates depend on the shape, the
number of active inputs, the dtype, and nothing that is measured while a program runs: two runs, or
a run and its resumption, choose alike. The constants are a fit to the measured map of density and
shape (`docs/sparse.md`).

    sparse = call + listing * elements + rows * (row + vector * vectors of a row) + outputs * output
    dense  = products / rate
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

Mode = Literal["auto", "on", "off"]


class Cost(NamedTuple):
    """Nanoseconds on one thread (per product: picoseconds)."""

    call: float
    listing: float
    row: float
    vector: float
    output: float
    product: float


CALL = 60_000.0
"""Of a sparse layer, before it works, in ns: below a few times this nothing is counted."""

_FORWARD = {
    torch.float32: Cost(CALL, 0.5, 0.6, 0.64, 0.6, 17.0),
    torch.float64: Cost(CALL, 0.5, 0.6, 0.64, 1.2, 34.0),
    torch.bfloat16: Cost(CALL, 0.5, 0.6, 0.64, 0.6, 8.0),
}
_WEIGHT = {
    torch.float32: Cost(0.0, 0.0, 1.5, 0.7, 0.3, 17.5),
    torch.float64: Cost(0.0, 0.0, 1.5, 0.7, 0.6, 35.0),
    torch.bfloat16: Cost(0.0, 0.0, 1.5, 0.7, 0.3, 8.5),
}


@dataclass(frozen=True)
class Work:
    """What a layer does in one call.

    `elements` of its input, of which `active` are not zero; each meets `meetings` rows of
    `features` weights; `outputs` values come out and `products` are made if all inputs count.
    `weights`: how many there are.
    """

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
    return work.products * _FORWARD[work.dtype].product < 2000 * CALL


def choose(work: Work, active: int, mode: Mode, gradient: bool) -> SparseParts:
    """`gradient`: whether that of the weights will be asked for."""
    if mode == "on":
        return SparseParts(True, gradient)
    if mode == "off":
        return SparseParts(False, False)
    forward, weight = _FORWARD[work.dtype], _WEIGHT[work.dtype]
    listing = forward.listing * work.elements + forward.call
    gain_forward = _gain(forward, work, active, work.outputs)
    gain_weight = _gain(weight, work, active, work.weights) if gradient else 0.0
    use_forward, use_weight = gain_forward > 0, gain_weight > 0
    gain = max(gain_forward, 0.0) + max(gain_weight, 0.0)
    if gain <= listing:
        return SparseParts(False, False)
    return SparseParts(use_forward, use_weight)


def _gain(cost: Cost, work: Work, active: int, written: int) -> float:
    lanes = 8 if work.dtype == torch.float64 else 16
    vectors = math.ceil(work.features / lanes)
    rows = active * work.meetings
    sparse = rows * (cost.row + cost.vector * vectors) + cost.output * written
    return work.products * cost.product / 1000 - sparse


@dataclass(frozen=True)
class Decision:
    """One layer in one call: what it was given, and what ran."""

    kind: str
    weight: int
    """`id` of the parameter."""
    shape: tuple[int, ...]
    dtype: torch.dtype
    density: float | None
    forward: str
    """`sparse` or `dense`."""
    gradient: str
    """`sparse`, `dense`, or `-` where none will be asked for."""
    reason: str


_mode: Mode = "auto"
_records: ContextVar[list[Decision] | None] = ContextVar("records", default=None)


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
        global _mode
        self._before: Mode = _mode
        _mode = mode

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        global _mode
        _mode = self._before


def current_mode() -> Mode:
    return _mode


@contextmanager
def recording() -> Iterator[list[Decision]]:
    """Collects the decisions of the calls in the block."""
    records: list[Decision] = []
    token = _records.set(records)
    try:
        yield records
    finally:
        _records.reset(token)


def is_recording() -> bool:
    return _records.get() is not None


def record(decision: Decision) -> None:
    records = _records.get()
    if records is not None:
        records.append(decision)
