"""Figures of networks and runs, each drawn on matplotlib axes; the report uses the same.

Every function takes `ax`, the axes to draw on, and returns them; without it a new figure is made,
which a notebook shows and `ax.figure.savefig("figure.pdf")` keeps.
"""

from spikeloom.plot.lines import Line, curves
from spikeloom.plot.measures import confusion, constants, energy, latency, rates, tradeoff
from spikeloom.plot.neurons import histograms, membrane, output_raster, raster
from spikeloom.plot.svg import svg

__all__ = [
    "Line",
    "confusion",
    "constants",
    "curves",
    "energy",
    "histograms",
    "latency",
    "membrane",
    "output_raster",
    "raster",
    "rates",
    "svg",
    "tradeoff",
]
