"""Curves over epochs, steps or time, with bands, levels and the last values written out."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spikeloom.plot.style import (
    INK,
    axes,
    caption,
    figure_of,
    level,
    value_axis,
    whole_steps,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More points than pixels only make a file large (published runs have 1024 epochs).
_MOST_POINTS = 300


@dataclass(frozen=True)
class Line:
    """One curve: `y` over `x`; `low` and `high` make a band around it."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    low: Sequence[float] = ()
    high: Sequence[float] = ()

    @classmethod
    def of(cls, label: str, points: Iterable[tuple[float, float | None]], colour: str) -> "Line":
        """The curve through `points` (x, y), without those whose y is None."""
        known = [(float(x), y) for x, y in points if y is not None]
        return cls(label, [x for x, _ in known], [y for _, y in known], colour)

    def thinned(self, most: int = _MOST_POINTS) -> "Line":
        """At most about `most` points: every n-th, and the last."""
        stride = -(-len(self.x) // most)
        if stride <= 1:
            return self
        keep = sorted({*range(0, len(self.x), stride), len(self.x) - 1})
        rows = [self.x, self.y, self.low, self.high]
        x, y, low, high = ([row[i] for i in keep] if row else () for row in rows)
        return replace(self, x=x, y=y, low=low, high=high)


def curves(
    lines: Sequence[Line],
    *,
    y: str,
    x: str = "epoch",
    percent: bool = False,
    log: bool = False,
    reference: tuple[float, str] | None = None,
    mark: tuple[float, float] | None = None,
    ends: Callable[[float], str] | None = None,
    floor: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Curves over `x`.

    `reference`: a horizontal line with its name. `mark`: a point to ring. `ends`: writes each
    curve's last value behind it. `log`: a logarithmic y axis, where the values allow one. `floor`:
    what lies below is not shown.
    """
    ax = axes(ax)
    lines = [line.thinned() for line in lines]
    for line in lines:
        if line.low and any(low < high for low, high in zip(line.low, line.high, strict=True)):
            ax.fill_between(line.x, line.low, line.high, color=line.colour, alpha=0.16, linewidth=0)
        ax.plot(
            line.x,
            line.y,
            color=line.colour,
            label=line.label,
            linewidth=1.6,
            solid_capstyle="round",
            marker="o" if len(line.x) <= 12 else None,
            markersize=3.5,
            markeredgewidth=0,
        )
    value_axis(
        ax,
        [value for line in lines for value in (*line.y, *line.low, *line.high)],
        percent=percent,
        log=log,
    )
    if reference is not None:
        level(ax, *reference)
    if mark is not None:
        ax.plot(*mark, "o", markersize=8, markerfacecolor="none", color=INK)
    ax.margins(x=0.02)
    if floor is not None:
        ax.set_ylim(bottom=floor)
    if percent and ax.get_ylim()[1] > 1:
        ax.set_ylim(top=1.005)
    whole_steps(ax, 7 if figure_of(ax).get_figwidth() > 3 else 4)
    caption(ax, x=x, y=y)
    if ends is not None:
        _write_ends(ax, lines, ends)
    return ax


def accuracy_floor(lines: Sequence[Line]) -> float | None:
    """Where an accuracy axis begins so that its last points are told apart: twelve times as far
    below 1 as the best of them; None if all lies above.
    """
    values = [value for line in lines for value in line.y]
    if not values:
        return None
    bottom = 1 - 12 * max(1 - max(values), 0.004)
    # Of a curve at least its last third stays in sight.
    bottom = min([bottom, *(min(line.y[-max(len(line.y) // 3, 1) :]) for line in lines)])
    return bottom if bottom > min(values) and bottom > 0.05 else None


def _write_ends(ax: "Axes", lines: Sequence[Line], text: Callable[[float], str]) -> None:
    """The last value of every curve behind its end, moved apart where they would touch."""
    figure = figure_of(ax)
    figure.draw_without_rendering()
    to_axes = ax.transData + ax.transAxes.inverted()
    colours: dict[tuple[float, str], str] = {}
    for line in lines:
        height = float(to_axes.transform((line.x[-1], line.y[-1]))[1])
        # Curves that end alike share one label, in no curve's colour.
        key = (round(height, 3), text(line.y[-1]))
        colours[key] = INK if key in colours else line.colour
    labels = sorted(colours)
    gap = 0.15 / figure.get_figheight()  # a line of text, roughly in axes heights
    places: list[float] = []
    for height, _ in labels:
        places.append(max(height, places[-1] + gap) if places else height)
    # The stack may have grown over the top: push it down again, from the highest label on.
    ceiling = 1 + gap / 2
    for position in reversed(range(len(places))):
        places[position] = min(places[position], ceiling)
        ceiling = places[position] - gap
    for place, key in zip(places, labels, strict=True):
        write(ax, 1.01, place, key[1], colours[key])
