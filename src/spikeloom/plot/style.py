"""One style for every figure of the library: colours, axes, captions.

Nothing global is touched: no rcParams that outlive a call, and pyplot only where a caller gives no
axes to draw on.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, AXIS = "#4d4c47", "#6f6d66", "#ecebe5", "#c6c4bb"
SERIES = ("#2a78d6", "#1baf7a", "#d99100", "#5a45b5", "#008300", "#e34948", "#e06a9b", "#eb6834")
"""Hues that stay apart for the colour-blind, in the order in which series get them."""

BLUE, ORANGE, RED = SERIES[0], SERIES[7], SERIES[5]

SMALL = 7.9
"""Points of all text: 11 pixels at 100 dots per inch."""

SIZE = (4.2, 2.7)
"""Inches of a figure that is made for a caller without axes."""


def palette(count: int) -> list[str]:
    """`count` colours for series in order: distinct hues up to 8, then a ramp from the first to
    the last of them.
    """
    if count <= len(SERIES):
        return list(SERIES[:count])
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    ramp = LinearSegmentedColormap.from_list("ramp", (BLUE, ORANGE), count)
    return [to_hex(ramp(index)) for index in range(count)]


def axes(ax: "Axes | None" = None, size: tuple[float, float] = SIZE) -> "Axes":
    """`ax` in this style; without one, that of a new pyplot figure, which a notebook shows."""
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(figsize=size, dpi=100, layout="constrained")[1]
    for side, spine in ax.spines.items():
        spine.set_visible(side == "bottom")
        spine.set(color=AXIS, linewidth=0.8)
    ax.grid(axis="y", color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(which="both", length=0, labelsize=SMALL, labelcolor=MUTED, pad=4)
    return ax


def figure_of(ax: "Axes") -> "Figure":
    """The whole figure that `ax` is on."""
    figure = ax.get_figure(root=True)
    assert figure is not None  # axes that were taken off their figure draw nothing
    return figure


def caption(ax: "Axes", *, x: str = "", y: str = "") -> None:
    """Axis titles: below at the right for x, above at the left for y, so that nothing is turned."""
    if x:
        ax.set_xlabel(x, fontsize=SMALL, color=MUTED, loc="right", labelpad=2)
    if y:
        ax.set_title(y, fontsize=SMALL, color=MUTED, loc="left", pad=8)


def write(
    ax: "Axes",
    x: float,
    y: float,
    text: str,
    colour: str = MUTED,
    align: Literal["left", "center", "right"] = "left",
) -> None:
    """Small text in axes coordinates (0..1), centred on `y`."""
    ax.text(
        x,
        y,
        text,
        transform=ax.transAxes,
        color=colour,
        fontsize=SMALL,
        ha=align,
        va="center",
        clip_on=False,
    )


def level(ax: "Axes", value: float, name: str = "") -> None:
    """A dashed horizontal line, named above its left end."""
    ax.axhline(value, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    ax.annotate(
        name,
        (0, value),
        xycoords=("axes fraction", "data"),
        xytext=(2, 3),
        textcoords="offset points",
        fontsize=SMALL - 0.7,
        color=MUTED,
    )


def whole_steps(ax: "Axes", most: int = 6) -> None:
    """Ticks of the x axis at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(most, integer=True))


def value_axis(ax: "Axes", values: Sequence[float], *, percent: bool, log: bool) -> None:
    """The y axis: in percent; logarithmic, if asked for and the values are positive and span more
    than 8:1; never so narrow that rounding looks like change.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if log and values and min(values) > 0 and max(values) / min(values) > 8:
        ax.set_yscale("log")
        few = max(values) / min(values) < 300
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        return
    if values and max(values) - min(values) < 0.02 * max(map(abs, values)):
        middle = sum(values) / len(values)
        ax.set_ylim(middle - 0.1 * abs(middle), middle + 0.1 * abs(middle))
    ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    ax.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{100 * value:g} %" if percent else f"{value:g}")
    )
