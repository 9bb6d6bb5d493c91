"""How a GPU kernel is cut for a call: size of tiles, programs, and segments of time.

Registers decide. A thread holds, for each of its neurons, the states of a segment, its inputs, and
what the adjoint keeps alive; too many of them spill to memory, so a thread takes fewer neurons, or
a segment fewer steps. The estimate is checked against the compiler's own count for every neuron of
the library (docs/performance.md).
"""

from dataclasses import dataclass
from functools import cache, lru_cache

import torch

from spikeloom.compiler.dispatch import interpreting
from spikeloom.compiler.front.ir import Graph
from spikeloom.compiler.front.trace import Trace
from spikeloom.compiler.plan.geometry import Plan

REGISTERS = 168
"""Registers of a thread that a kernel may be expected to need; the hardware has 255."""

SHORT = 4
"""Time steps up to which the backward kernel keeps all states in registers, if they fit."""

SEGMENT = 4
"""Time steps of a segment where the states of all steps would not fit the second-level cache."""


@dataclass(frozen=True)
class Machine:
    """What a device has: multiprocessors, and bytes of second-level cache."""

    processors: int
    cache_bytes: int


@cache
def machine(index: int | None) -> Machine:
    """The device of this index. In the interpreter: a small one, so that programs have several
    tiles."""
    if interpreting():
        return Machine(2, 1 << 14)
    device = torch.cuda.current_device() if index is None else index
    properties = torch.cuda.get_device_properties(device)
    return Machine(properties.multi_processor_count, properties.L2_cache_size)


@dataclass(frozen=True)
class Tile:
    """Neurons of a program, and the warps that share them. In the row nest `rows` is 1."""

    rows: int
    cols: int
    warps: int

    @property
    def neurons(self) -> int:
        return self.rows * self.cols

    @staticmethod
    def of(plan: Plan, neurons: int, per_thread: int) -> "Tile":
        """A tile of about so many neurons; no wider than there is work for."""
        if plan.nest == "row":
            cols = min(neurons, _power_above(plan.layout.size // max(1, plan.channels)))
            rows = 1
        else:
            cols = min(neurons, 128, _power_above(plan.inner))
            rows = min(neurons // cols, _power_above(plan.rows))
        return Tile(rows, cols, max(1, min(8, rows * cols // (32 * per_thread))))


@dataclass(frozen=True)
class Grid:
    """Tiles of a time step, and the numbers of them along both axes.

    Row nest: `across` channels times `along` tiles of each. Vec nest: `across` column tiles times
    `along` row blocks.
    """

    tile: Tile
    across: int
    along: int

    @property
    def tiles(self) -> int:
        return self.across * self.along

    @staticmethod
    def of(plan: Plan, tile: Tile) -> "Grid":
        if plan.nest == "row":
            each = plan.layout.size // max(1, plan.channels)
            return Grid(tile, plan.channels, -(-each // tile.cols))
        return Grid(tile, max(1, -(-plan.inner // tile.cols)), -(-plan.rows // tile.rows))

    def arguments(self, plan: Plan) -> dict[str, int]:
        """The kernel's arguments that describe the walk (`loops.sizes`, `loops.constants`)."""
        n = plan.layout.size
        if plan.nest == "row":
            return {
                "n": n,
                "tiles": self.tiles,
                "channels": plan.channels,
                "length": plan.length,
                "row": plan.channels * plan.length,
                "per_channel": n // max(1, plan.channels),
                "BLOCK": self.tile.cols,
            }
        return {
            "n": n,
            "rows": plan.rows,
            "inner": plan.inner,
            "row_blocks": self.along,
            "column_tiles": self.across,
            "ROWS": self.tile.rows,
            "COLS": self.tile.cols,
        }


@dataclass(frozen=True)
class BackwardCut:
    """The grid of the backward kernel, its programs (vec nest: `shares` for each column tile), and
    its segments of `K` time steps."""

    grid: Grid
    programs: int
    K: int
    segments: int

    @property
    def whole(self) -> bool:
        return self.segments == 1

    @property
    def shares(self) -> int:
        return self.programs // self.grid.across


def forward_grid(plan: Plan, on: Machine) -> Grid:
    """Tiles of 512 neurons, four a thread: whole 16-byte loads; smaller ones where there would be
    fewer than four to a multiprocessor."""
    sizes = ((512, 4), (256, 4), (128, 4), (128, 1))
    grids = [Grid.of(plan, Tile.of(plan, neurons, each)) for neurons, each in sizes]
    return next((grid for grid in grids if grid.tiles >= 4 * on.processors), grids[-1])


@lru_cache(maxsize=1024)
def backward_cut(
    trace: Trace, plan: Plan, leaves: tuple[str, ...], time_steps: int, on: Machine
) -> BackwardCut:
    """All of time in registers where it is short; else states written down at every step while all
    programs' notes fit half of the cache, and at every fourth step beyond that."""
    states = max(1, len(trace.signature.states))
    steps = time_steps if time_steps <= SHORT and per_thread(trace, leaves, time_steps) else 1
    cut = _cut(trace, plan, leaves, time_steps, steps, on)
    size = 8 if trace.double else 4
    notes = cut.programs * cut.grid.tile.neurons * states * time_steps * size
    if not cut.whole and notes > on.cache_bytes // 2 and per_thread(trace, leaves, SEGMENT):
        cut = _cut(trace, plan, leaves, time_steps, SEGMENT, on)
    return cut


def _cut(
    trace: Trace, plan: Plan, leaves: tuple[str, ...], time_steps: int, steps: int, on: Machine
) -> BackwardCut:
    each = per_thread(trace, leaves, steps) or 1
    grid = Grid.of(plan, Tile.of(plan, 128 * each, each))
    if grid.tiles < 2 * on.processors:
        grid = Grid.of(plan, Tile.of(plan, 128, 1))
    at_once = on.processors * max(1, 1024 // (32 * grid.tile.warps))
    if plan.nest == "row":
        programs = min(grid.tiles, at_once)
    else:
        programs = grid.across * max(1, min(grid.along, at_once // grid.across))
    return BackwardCut(grid, programs, steps, -(-time_steps // steps))


@lru_cache(maxsize=1024)
def per_thread(trace: Trace, leaves: tuple[str, ...], steps: int) -> int:
    """Neurons of a thread in the backward kernel with segments of `steps`; 0 if not even one
    fits."""
    states = len(trace.signature.states)
    gradients = ["grad:x", *(f"grad:{name}" for name in (*trace.signature.states, *leaves))]
    alive = live_values(trace.adjoint.select(gradients))
    needed = states * (steps + 1) + 2 * steps + alive + len(leaves)
    needed *= 2 if trace.double else 1
    return next((each for each in (4, 2, 1) if 24 + each * needed <= REGISTERS), 0)


def live_values(graph: Graph) -> int:
    """The most values that are alive at once when the graph is computed in its order."""
    last = {id(arg): i for i, value in enumerate(graph.order) for arg in value.args}
    for value in graph.outputs.values():
        last[id(value)] = len(graph.order)
    alive = most = 0
    ends = [0] * (len(graph.order) + 1)
    for i, value in enumerate(graph.order):
        alive += 1
        ends[last.get(id(value), i)] += 1
        most = max(most, alive)
        alive -= ends[i]
    return most


def _power_above(count: int) -> int:
    return 1 << max(0, count - 1).bit_length()
