"""The figures of a report, each a function from numbers to an inline SVG."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spikeloom.report.svg import INK, MUTED, axes, caption, paint, render, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from spikeloom.analysis.traces import LayerTrace

# Width and height in units of 100 CSS pixels: about what each has on a wide page, so that text
# keeps its size there.
WIDE, HALF, THIRD, SLIM, PANEL = (10.6, 3.0), (5.0, 2.7), (3.7, 2.6), (2.6, 2.6), (2.6, 1.9)


@dataclass(frozen=True)
class Line:
    """One curve: `y` over `x`, in a CSS colour; `low` and `high` make a band around it."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    low: Sequence[float] = ()
    high: Sequence[float] = ()

    def thinned(self, most: int) -> "Line":
        """At most about `most` points: every n-th, and the last."""
        stride = -(-len(self.x) // most)
        keep = sorted({*range(0, len(self.x), stride), len(self.x) - 1}) if stride > 1 else None
        if keep is None:
            return self
        rows = [self.x, self.y, self.low, self.high]
        x, y, low, high = ([row[i] for i in keep] if row else () for row in rows)
        return replace(self, x=x, y=y, low=low, high=high)


# More points than pixels only make the file large (published runs have 1024 epochs).
_MOST_POINTS = 300


def curves(
    lines: Sequence[Line],
    *,
    describe: str,
    y: str,
    x: str = "epoch",
    size: tuple[float, float] = HALF,
    percent: bool = False,
    log: bool = False,
    level: tuple[float, str] | None = None,
    mark: tuple[float, float] | None = None,
    ends: Callable[[float], str] | None = None,
) -> str:
    """Curves over `x`.

    `level`: a horizontal line with its name. `mark`: a point to ring. `ends`: writes each curve's
    last value behind it. `log`: a logarithmic y axis, if the values are positive and span more
    than 8:1.
    """
    from matplotlib.ticker import MaxNLocator

    figure, plot = axes(*size)
    lines = [line.thinned(_MOST_POINTS) for line in lines]
    for line in lines:
        shade = paint(line.colour)
        if line.low and any(low < high for low, high in zip(line.low, line.high, strict=True)):
            plot.fill_between(line.x, line.low, line.high, color=shade, alpha=0.16, linewidth=0)
        plot.plot(
            line.x,
            line.y,
            color=shade,
            linewidth=1.6,
            solid_capstyle="round",
            marker="o" if len(line.x) <= 12 else None,
            markersize=3.5,
            markeredgewidth=0,
        )
    values = [value for line in lines for value in (*line.y, *line.low, *line.high)]
    if log and _spans(values):
        _log_axis(plot, values)
    else:
        _linear_axis(plot, percent)
    if level is not None:
        _level(plot, *level)
    if mark is not None:
        plot.plot(*mark, "o", markersize=8, markerfacecolor="none", color=paint(INK))
    plot.margins(x=0.02)
    plot.xaxis.set_major_locator(MaxNLocator(7 if size[0] > 3 else 4, integer=True))
    caption(plot, x=x, y=y)
    if ends is not None:
        _write_ends(figure, plot, lines, ends)
    return render(figure, describe)


def raster(layer: "LayerTrace", colour: str, *, most: int = 48) -> str:
    """The spikes of up to `most` neurons that fire, a block each, over the time steps 1..T."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path
    from matplotlib.ticker import MaxNLocator

    figure, plot = axes(*PANEL)
    spikes = layer.spikes
    shown = shown_neurons(layer, most)
    corners: list[tuple[float, float]] = []
    for row, neuron in enumerate(shown):
        for step in spikes[:, neuron].nonzero().flatten().tolist():
            left, right, low, high = step + 0.62, step + 1.38, row - 0.4, row + 0.4
            corners += [(left, low), (right, low), (right, high), (left, high), (left, low)]
    if corners:
        codes = [Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY] * (len(corners) // 5)
        plot.add_patch(PathPatch(Path(corners, codes), color=paint(colour), linewidth=0))
    else:
        write(plot, 0.5, 0.5, "no neuron fires", MUTED, align="center")
    plot.grid(visible=False)
    plot.set(xlim=(0.4, len(spikes) + 0.6), ylim=(-0.8, max(len(shown), 8) - 0.2))
    plot.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    plot.set_yticks([])
    caption(plot, x="time step")
    return render(figure, f"spike raster of {layer.layer}: {len(shown)} neurons")


def potentials(layer: "LayerTrace", neurons: Sequence[int], colours: Sequence[str]) -> str:
    """The membrane potential of some neurons: up to h_t, and down to v_t where it fires.

    A neuron without a record of h shows its first state after each step.
    """
    from matplotlib.ticker import MaxNLocator

    figure, plot = axes(*PANEL)
    after = next(iter(layer.potentials.values()))
    before = layer.potentials.get("h", after)
    steps = len(after)
    for neuron, colour in zip(neurons, colours, strict=True):
        x = [0.0] + [float(t) for step in range(1, steps + 1) for t in (step, step)]
        y = [layer.rest] + [
            v for t in range(steps) for v in (before[t, neuron].item(), after[t, neuron].item())
        ]
        plot.plot(x, y, color=paint(colour), linewidth=1.4, solid_joinstyle="round")
        fired = layer.spikes[:, neuron].nonzero().flatten().tolist()
        plot.plot(
            [t + 1 for t in fired],
            [before[t, neuron].item() for t in fired],
            "o",
            color=paint(colour),
            markersize=4,
            markeredgewidth=0,
        )
    if layer.threshold is not None:
        _level(plot, layer.threshold, "")
    plot.set_xlim(-0.2, steps + 0.2)
    plot.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    plot.yaxis.set_major_locator(MaxNLocator(4))
    caption(plot, x="time step")
    return render(figure, f"membrane potential in {layer.layer}")


def shown_neurons(layer: "LayerTrace", most: int) -> list[int]:
    """Up to `most` of the neurons that fire, evenly spread over the layer."""
    active = layer.spikes.any(0).nonzero().flatten().tolist()
    if len(active) <= most:
        return active
    return [active[round(i * (len(active) - 1) / (most - 1))] for i in range(most)]


def telling_neurons(layer: "LayerTrace") -> list[int]:
    """Two neurons worth a look: one that fires about as often as the firing ones do on average, and
    the one that comes closest to the threshold without firing (each if there is one)."""
    counts = layer.spikes.sum(0)
    potential = layer.potentials.get("h", next(iter(layer.potentials.values())))
    chosen = []
    if bool((counts > 0).any()):
        typical = counts[counts > 0].double().mean()
        distance = (counts - typical).abs() + (counts == 0) * 1e9
        chosen.append(int(distance.argmin()))
    silent = counts == 0
    if bool(silent.any()):
        peak = potential.max(0).values.masked_fill(~silent, -math.inf)
        chosen.append(int(peak.argmax()))
    return chosen


def _spans(values: Sequence[float]) -> bool:
    return bool(values) and min(values) > 0 and max(values) / min(values) > 8


def _log_axis(plot: "Axes", values: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    plot.set_yscale("log")
    few = max(values) / min(values) < 300
    plot.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    plot.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    plot.yaxis.set_minor_formatter(NullFormatter())


def _linear_axis(plot: "Axes", percent: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    plot.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    plot.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{100 * value:g} %" if percent else f"{value:g}")
    )


def _level(plot: "Axes", value: float, name: str) -> None:
    """A dashed horizontal line, named above its left end."""
    plot.axhline(value, color=paint(MUTED), linewidth=1, linestyle=(0, (3, 3)))
    plot.annotate(
        name,
        (0, value),
        xycoords=("axes fraction", "data"),
        xytext=(2, 3),
        textcoords="offset points",
        fontsize=7.2,
        color=paint(MUTED),
    )


def _write_ends(
    figure: "Figure", plot: "Axes", lines: Sequence[Line], text: Callable[[float], str]
) -> None:
    """The last value of every curve behind its end, moved apart where they would touch."""
    figure.draw_without_rendering()
    to_axes = plot.transData + plot.transAxes.inverted()
    at: dict[tuple[float, str], str] = {}
    for line in lines:
        height = float(to_axes.transform((line.x[-1], line.y[-1]))[1])
        # Curves that end alike share one label, in no curve's colour.
        key = (round(height, 3), text(line.y[-1]))
        at[key] = "var(--ink-2)" if key in at else line.colour
    labels = sorted(at)
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
        # Text needs more contrast than a line does.
        write(plot, 1.01, place, key[1], f"color-mix(in srgb, {at[key]} 65%, var(--ink))")
