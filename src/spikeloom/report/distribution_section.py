"""The distributions of learned constants: a row per layer, before training and after."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from spikeloom.report.examine import Examination
from spikeloom.report.html import Markup, card, figure, grid, section, tag
from spikeloom.report.svg import MUTED, axes, caption, paint, render

if TYPE_CHECKING:
    from spikeloom.analysis.distributions import Spread

BEFORE, AFTER = "var(--axis)", "var(--c1)"
_BINS = 48
_ROW = 0.16
"""Height of a layer's row, in units of 100 CSS pixels."""


def distributions(found: Examination | str) -> Markup:
    """A card per constant of which layers have more than one value; nothing if there is none."""
    if isinstance(found, str) or not found.distributions:
        return Markup()
    return section(
        "distributions",
        "Distributions of learned constants",
        tag(
            "ul",
            tag("li", tag("i", style=f"background:{BEFORE}"), "before training"),
            tag("li", tag("i", style=f"background:{AFTER}"), "trained"),
            class_="legend",
        ),
        grid(*_cards(found.distributions)),
        note="Each row is a layer, from the input at the top; each hill is a histogram of its "
        "channels (and time steps), all as high.",
    )


def _cards(constants: "Mapping[str, Sequence[Spread]]") -> list[Markup]:
    return [card(figure(ridges(name, spreads)), title=name) for name, spreads in constants.items()]


def ridges(name: str, spreads: "Sequence[Spread]") -> str:
    """Histograms of one constant over a common axis, one row per layer."""
    rows = len(spreads)
    chart, plot = axes(5.0, 0.8 + _ROW * rows)
    values = np.concatenate([np.concatenate([s.before, s.after]) for s in spreads])
    low, high = float(values.min()), float(values.max())
    # A constant that did not move at all still needs an axis of some width.
    margin = 0.04 * (high - low) or 0.05 * max(abs(high), 1.0)
    edges = np.linspace(low - margin, high + margin, _BINS + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    for row, spread in enumerate(spreads):
        ground = rows - 1 - row
        for data, colour in ((spread.before, BEFORE), (spread.after, AFTER)):
            hill = np.histogram(data, edges)[0].astype(float)
            hill *= 0.9 / hill.max()
            plot.fill_between(
                centres,
                ground,
                ground + hill,
                color=paint(colour),
                alpha=0.55,
                linewidth=0,
                step="mid",
            )
    plot.grid(visible=False)
    plot.set_ylim(-0.1, rows)
    plot.set_yticks([rows - 1 - i for i in range(rows)], [s.layer for s in spreads])
    plot.tick_params(axis="y", labelsize=6.5, labelcolor=paint(MUTED))
    caption(plot, x=name)
    return render(chart, f"distribution of {name} in {rows} layers, before and after training")
