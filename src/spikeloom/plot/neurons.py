"""What neurons did: spike rasters, membrane potentials, distributions of their constants."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from spikeloom.plot.style import (
    AXIS,
    BLUE,
    INK,
    MUTED,
    ORANGE,
    axes,
    caption,
    level,
    palette,
    whole_steps,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

    from spikeloom.analysis.constants import Spread
    from spikeloom.analysis.traces import LayerTrace

Item = TypeVar("Item")

_MOST_NAMES = 20
_BINS = 48


def raster(
    trace: "LayerTrace | Tensor", *, most: int = 48, colour: str = BLUE, ax: "Axes | None" = None
) -> "Axes":
    """The spikes of up to `most` neurons that fire, a block each, over the time steps 1..T.

    `trace`: a layer's trace (`sl.analysis.trace`), or its spikes `[T, N]` (0 is no spike).
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    ax = axes(ax)
    spikes = _spikes(trace)
    rows = firing_neurons(spikes, most)
    corners: list[tuple[float, float]] = []
    for row, neuron in enumerate(rows):
        for step in spikes[:, neuron].nonzero().flatten().tolist():
            left, right, low, high = step + 0.62, step + 1.38, row - 0.4, row + 0.4
            corners += [(left, low), (right, low), (right, high), (left, high), (left, low)]
    if corners:
        codes = [Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY] * (len(corners) // 5)
        ax.add_patch(PathPatch(Path(corners, codes), color=colour, linewidth=0))
    else:
        write(ax, 0.5, 0.5, "no neuron fires", align="center")
    ax.grid(visible=False)
    ax.set(xlim=(0.4, len(spikes) + 0.6), ylim=(-0.8, max(len(rows), 8) - 0.2))
    whole_steps(ax)
    ax.set_yticks([])
    caption(ax, x="time step")
    return ax


def membrane(
    trace: "LayerTrace", neurons: Sequence[int] | None = None, *, ax: "Axes | None" = None
) -> "Axes":
    """The membrane potential of some neurons: up to h_t, and down to v_t where it fires (a dot).

    `neurons`: their numbers; one that fires and one that comes close to it without, if left out.
    Those that stay silent are drawn in orange. A neuron without a record of h (the potential before
    the reset) shows its first state after each step.
    """
    from matplotlib.ticker import MaxNLocator

    ax = axes(ax)
    spikes = _spikes(trace)
    after = next(iter(trace.potentials.values()))
    before = trace.potentials.get("h", after)
    steps = len(after)
    for neuron in telling_neurons(trace) if neurons is None else neurons:
        fired = spikes[:, neuron].nonzero().flatten().tolist()
        colour = BLUE if fired else ORANGE
        x = [0.0] + [float(t) for step in range(1, steps + 1) for t in (step, step)]
        y = [trace.rest] + [
            v for t in range(steps) for v in (before[t, neuron].item(), after[t, neuron].item())
        ]
        ax.plot(x, y, color=colour, linewidth=1.4, solid_joinstyle="round")
        peaks = [before[t, neuron].item() for t in fired]
        ax.plot([t + 1 for t in fired], peaks, "o", color=colour, markersize=4, markeredgewidth=0)
    if trace.threshold is not None:
        level(ax, trace.threshold)
    ax.set_xlim(-0.2, steps + 0.2)
    whole_steps(ax)
    ax.yaxis.set_major_locator(MaxNLocator(4))
    caption(ax, x="time step")
    return ax


def output_raster(
    samples: "Sequence[tuple[Tensor, int]]",
    classes: Sequence[str],
    *,
    ax: "Axes | None" = None,
) -> "Axes":
    """The output spikes of samples over time, the first of each ringed.

    `samples`: spikes `[T, classes]` and label of each. One alone is drawn on a band at its label,
    several in a colour each.
    """
    ax = axes(ax)
    if len(samples) == 1:
        ax.axhline(samples[0][1], color=MUTED, linewidth=5, alpha=0.25)
    colours = [INK] if len(samples) == 1 else palette(len(samples))
    for (spikes, _), colour in zip(samples, colours, strict=True):
        times, neurons = (row.tolist() for row in (spikes != 0).nonzero(as_tuple=True))
        if not times:
            if len(samples) == 1:
                write(ax, 0.5, 0.5, "no output neuron fires", align="center")
            continue
        ax.plot([t + 1 for t in times], neurons, "|", color=colour, markersize=5)
        # nonzero goes step by step, neuron by neuron: its first row is the first spike.
        ring = BLUE if colour == INK else colour
        first = ([times[0] + 1], [neurons[0]])
        ax.plot(*first, "o", markersize=9, markerfacecolor="none", markeredgecolor=ring)
    ax.grid(visible=False)
    steps = max((len(spikes) for spikes, _ in samples), default=1)
    ax.set(xlim=(0, steps + 1), ylim=(-0.7, len(classes) - 0.3))
    whole_steps(ax)
    every = -(-len(classes) // _MOST_NAMES)
    ax.set_yticks(range(0, len(classes), every), classes[::every])
    caption(ax, x="time step")
    return ax


def histograms(name: str, spreads: "Sequence[Spread]", *, ax: "Axes | None" = None) -> "Axes":
    """Histograms of one constant over a common axis, a row per layer, before training (grey) and
    after (blue), all as high.
    """
    import numpy as np

    rows = len(spreads)
    ax = axes(ax, (4.2, 0.8 + 0.16 * rows))
    values = np.concatenate([np.concatenate([s.before, s.after]) for s in spreads])
    low, high = float(values.min()), float(values.max())
    # A constant that did not move at all still needs an axis of some width.
    margin = 0.04 * (high - low) or 0.05 * max(abs(high), 1.0)
    edges = np.linspace(low - margin, high + margin, _BINS + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    for row, spread in enumerate(spreads):
        ground = rows - 1 - row
        for data, colour in ((spread.before, AXIS), (spread.after, BLUE)):
            hill = np.histogram(data, edges)[0].astype(float)
            hill = ground + 0.9 * hill / hill.max()
            ax.fill_between(
                centres, ground, hill, color=colour, alpha=0.55, linewidth=0, step="mid"
            )
    ax.grid(visible=False)
    ax.set_ylim(-0.1, rows)
    ax.set_yticks([rows - 1 - i for i in range(rows)], [s.layer for s in spreads])
    ax.tick_params(axis="y", labelsize=6.5, labelcolor=MUTED)
    caption(ax, x=name)
    return ax


def firing_neurons(spikes: "Tensor", most: int) -> list[int]:
    """Up to `most` of the neurons that fire, evenly spread over the layer; `spikes` `[T, N]`."""
    return spread(spikes.any(0).nonzero().flatten().tolist(), most)


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, evenly spread from first to last."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def telling_neurons(trace: "LayerTrace") -> list[int]:
    """Two neurons worth a look: one that fires about as often as the firing ones do on average, and
    the one that comes closest to the threshold without firing (each if there is one).
    """
    counts = trace.spikes.sum(0)
    potential = trace.potentials.get("h", next(iter(trace.potentials.values())))
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


def _spikes(trace: "LayerTrace | Tensor") -> "Tensor":
    spikes: Any = getattr(trace, "spikes", trace)
    if not hasattr(spikes, "dim") or spikes.dim() != 2:
        shape = list(getattr(spikes, "shape", ()))
        raise ValueError(f"spikes {shape or type(spikes).__name__}: expected a tensor [T, N]")
    return spikes.ne(0)
