"""A figure as an SVG element inside a page, light and dark."""

import hashlib
import html
import io
import re
from typing import TYPE_CHECKING

from spikeloom.plot.style import AXIS, GRID, INK, MUTED, SERIES, figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

THEME = {INK: "--ink-2", MUTED: "--muted", GRID: "--grid", AXIS: "--axis"} | {
    colour: f"--c{index}" for index, colour in enumerate(SERIES, 1)
}
"""The CSS variable that takes the place of each colour of the style."""


def svg(ax: "Axes", description: str) -> str:
    """The figure of `ax` as an SVG element that scales with its container; `description` is read
    aloud. Its text has the font of the page, and its colours are the page's CSS variables.
    """
    from matplotlib import rc_context

    figure = figure_of(ax)
    figure.patch.set_alpha(0)
    ax.patch.set_alpha(0)
    buffer = io.StringIO()
    without = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "spikeloom"}):
        figure.savefig(buffer, format="svg", metadata=without)
    body = buffer.getvalue().partition("<svg")[2].partition(">")[2]
    for colour, variable in THEME.items():
        body = body.replace(colour, f"var({variable})")
    # Several figures share a page: their ids must not meet.
    prefix = hashlib.sha256((description + body).encode(errors="backslashreplace")).hexdigest()[:8]
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>f{prefix}-", re.sub(r"\n\s*", "\n", body))
    width, height = figure.get_size_inches()
    # Drawn for this many CSS pixels; a wider container must not blow it up without end.
    return (
        f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {72 * width:g} {72 * height:g}" style="max-width:{115 * width:.0f}px" '
        f'role="img" aria-label="{html.escape(description)}">{body}'
    ).strip()
