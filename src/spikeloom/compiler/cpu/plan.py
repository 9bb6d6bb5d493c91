"""From shapes to the way a kernel takes: memory order, blocks of neurons, parts for threads.

Everything here depends on shapes alone, never on the number of threads: equal inputs get equal
bits.
"""

from spikeloom.compiler.plan.geometry import Plan

GROUPS = 16
"""Partial sums of a coef gradient, whatever the number of threads: the sums keep their order."""


class Tiles:
    """Blocks of neurons whose states, over `time_steps`, fit in cache; and the parts that threads
    share.
    """

    def __init__(self, plan: Plan, states: int, time_steps: int) -> None:
        self.plan = plan
        n = plan.layout.size
        elements = block_elements(max(1, states), time_steps)
        if plan.nest == "row":
            block = min(elements, max(1, n))
            if plan.length <= block:
                block -= block % plan.length
            count = -(-n // block)
            blocks = max(1, -(-count // GROUPS))
            self.parts = -(-count // blocks)
            self.stride = _aligned(block)
            self._walk = (blocks, block, self.stride)
            self._sizes = (n, plan.length, plan.channels)
        else:
            wide = max(1, min(plan.inner, max(256, min(elements, 1024))))
            columns = -(-plan.inner // wide)
            high = max(1, min(elements // wide, plan.rows))
            # more shares than columns give more partial sums: only as many as there is work for
            self.shares = max(1, min(GROUPS // max(1, columns), plan.rows // 16))
            self.parts = columns * self.shares
            self.stride = _aligned(high * wide)
            self._walk = (self.shares, high, wide, self.stride)
            self._sizes = (n, plan.rows, plan.inner)

    def geometry(self, time_steps: int) -> tuple[int, ...]:
        """A driver's arguments that describe the walk (`loops.geometry_arguments`)."""
        return (*self._walk, time_steps, *self._sizes)

    def partial_shape(self, index: int) -> tuple[int, int]:
        """Copies and width of the partial sums of one coef's gradient."""
        copies = self.shares if self.plan.is_vector(index) else max(1, self.parts)
        return copies, self.plan.width(index)


def block_elements(states: int, time_steps: int) -> int:
    """Elements in a block: a power of two whose states over all time steps are about a million
    numbers.

    Long stretches of memory at each time step gain more than scratch that fits the second-level
    cache (measured: docs/performance.md).
    """
    fitting = 1_000_000 // (states * max(1, time_steps))
    power = 1 << max(0, fitting.bit_length() - 1)
    return max(1024, min(32768, power))


def _aligned(elements: int) -> int:
    """Rounded up to whole 64-byte lines: a split line costs every vector access twice."""
    return -(-elements // 16) * 16
