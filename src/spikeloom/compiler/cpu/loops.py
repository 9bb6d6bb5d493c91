"""The two ways to walk the neurons of a time step, as text around a segment call.

**Row nest**, `[rows][L]`: all elements of a segment share their coefs (one channel of one sample,
or the whole tensor where coefs are per layer). Coefs are scalars in the loop, their gradients sums.

**Vec nest**, `[rows][inner]`: elements of a row have coefs of their own (channels-last, fully
connected, short rows, per neuron). Coefs and the sums of their gradients are vectors beside the
data.

Both leave in scope, for one segment: `a`, its first element within the time step; `m`, its length;
`b`, its place in the block's scratch; and `c`, its channel, or `c0`, its first column.
"""

from spikeloom.compiler.emit import indent
from spikeloom.compiler.plan.geometry import Nest


def geometry_arguments(nest: Nest) -> list[str]:
    """What a driver is told of the walk, in the order in which `launch.py` passes it."""
    if nest == "row":
        return ["blocks", "block", "stride", "T", "n", "L", "C"]
    return ["shares", "high", "wide", "stride", "T", "n", "rows", "inner"]


def over_blocks(nest: Nest, body: list[str]) -> list[str]:
    """The loop over blocks of neurons.

    Row nest: a part is a group of `blocks` blocks of `block` elements. Vec nest: a part is `wide`
    columns times one of `shares` shares of the rows, walked `high` rows at a time.
    """
    if nest == "row":
        return [
            "for part in range(first, last):",
            "    beyond = min((part + 1) * blocks, (n + block - 1) // block)",
            "    for number in range(part * blocks, beyond):",
            "        begin = number * block",
            "        end = min(begin + block, n)",
            *indent(body, 2),
        ]
    return [
        "for part in range(first, last):",
        "    h = part % shares",
        "    c0 = (part // shares) * wide",
        "    m = min(wide, inner - c0)",
        "    for row0 in range(rows * h // shares, rows * (h + 1) // shares, high):",
        "        row1 = min(row0 + high, rows * (h + 1) // shares)",
        *indent(body, 2),
    ]


def over_segments(nest: Nest, body: list[str]) -> list[str]:
    """One time step of a block, segment by segment."""
    if nest == "row":
        # no division inside the loop: rows may be a few dozen elements short
        return [
            "a = begin",
            "edge = (begin // L + 1) * L",
            "c = (begin // L) % C",
            "while a < end:",
            "    m = min(edge, end) - a",
            "    b = a - begin",
            *indent(body),
            "    a += m",
            "    edge += L",
            "    c += 1",
            "    if c == C:",
            "        c = 0",
        ]
    return _over_rows(body)


def over_block(nest: Nest, lines: list[str]) -> list[str]:
    """Lines run once for a block, on everything in it."""
    if not lines:
        return []
    if nest == "row":
        return ["a = begin", "m = end - begin", "b = 0", *lines]
    return _over_rows(lines)


def _over_rows(body: list[str]) -> list[str]:
    return [
        "for row in range(row0, row1):",
        "    a = row * inner + c0",
        "    b = (row - row0) * wide",
        *indent(body),
    ]
