"""How a GPU shares the neurons of a time step: tiles of neurons, one program each, as text.

**Row nest**: a tile is `BLOCK` neurons of one channel, over samples and pixels alike; coefs are
scalars, their gradients one sum a tile. Neighbouring tiles are neighbouring channels, which share
lines of memory.

**Vec nest**: a tile is `ROWS` rows of `COLS` neurons that have coefs of their own; coefs are
vectors along the row, and so are the sums of their gradients.

Both leave in scope: `at`, where the neurons are within a time step; `keep`, which of them exist;
and `lane`, where each is within the tile.
"""

from spikeloom.compiler.plan.geometry import Nest


def sizes(nest: Nest) -> list[str]:
    """What a kernel is told of the shape of a time step."""
    if nest == "row":
        return ["n", "tiles", "channels", "length", "row", "per_channel"]
    return ["n", "rows", "inner", "row_blocks", "column_tiles"]


def constants(nest: Nest) -> list[str]:
    """The sizes of a tile, known when the kernel is compiled."""
    names = ("BLOCK",) if nest == "row" else ("ROWS", "COLS")
    return [f"{name}: tl.constexpr" for name in names]


def shape(nest: Nest) -> str:
    """The shape of a tile."""
    return "[BLOCK]" if nest == "row" else "[ROWS, COLS]"


def unit(nest: Nest) -> str:
    """The shape of one neuron in as many axes as a tile has."""
    return "[1]" if nest == "row" else "[1, 1]"


def row_tile(tile: str, flat: bool, quads: bool, index: str) -> list[str]:
    """The neurons of tile number `tile` in the row nest.

    `flat`: there is one channel. `quads`: rows are multiples of four neurons long, so that four may
    be loaded at once (of multiples of 16 Triton knows by itself).
    """
    if flat:
        return [
            f"at = tl.cast({tile}, {index}) * BLOCK + lane",
            "keep = at < n",
        ]
    hints = [f"{size} = {size} // 4 * 4" for size in ("length", "row", "per_channel")]
    return [
        *(hints if quads else []),
        f"channel = tl.cast({tile} % channels, {index})",
        f"place = tl.cast({tile} // channels, {index}) * BLOCK + lane",
        "keep = place < per_channel",
        "at = (place // length) * row + channel * length + place % length",
    ]


def vec_columns(tile: str) -> list[str]:
    """The columns of column tile number `tile` in the vec nest."""
    return [
        f"column = {tile} * COLS + tl.arange(0, COLS)",
        "inside = column < inner",
    ]


def vec_rows(block: str, index: str) -> list[str]:
    """The neurons of row block number `block` in these columns."""
    return [
        f"line = tl.cast({block}, {index}) * ROWS + tl.arange(0, ROWS)",
        "keep = (line < rows)[:, None] & inside[None, :]",
        "at = line[:, None] * inner + column[None, :]",
    ]


def lanes(nest: Nest) -> str:
    """The number of each neuron within its tile."""
    if nest == "row":
        return "lane = tl.arange(0, BLOCK)"
    return "lane = tl.arange(0, ROWS)[:, None] * COLS + tl.arange(0, COLS)[None, :]"
