"""Matplotlib figures as inline SVG in the page's own font and colours, light and dark.

Figures are drawn with stand-in colours, one for each CSS colour; `render` writes the CSS in their
place. Nothing global is touched: no pyplot, no change of rcParams that outlives a call.
"""

import hashlib
import html
import io
import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CSS: dict[str, str] = {}

INK, MUTED, GRID, AXIS = "var(--ink-2)", "var(--muted)", "var(--grid)", "var(--axis)"
SERIES = 8


def paint(css: str) -> str:
    """A colour that matplotlib understands and that becomes `css` on the page."""
    stand_in = "#" + hashlib.sha256(css.encode()).hexdigest()[:6]
    _CSS[stand_in] = css
    return stand_in


def palette(count: int) -> list[str]:
    """`count` CSS colours for series in order: distinct hues up to 8, then a ramp."""
    if count <= SERIES:
        return [f"var(--c{index})" for index in range(1, count + 1)]
    share = [round(100 * index / (count - 1)) for index in range(count)]
    return [f"color-mix(in oklch, var(--c8) {part}%, var(--c1))" for part in share]


def axes(width: float, height: float) -> "tuple[Figure, Axes]":
    """An empty figure of `width` x `height` (in units of 100 CSS pixels) in the report's style."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    figure.patch.set_alpha(0)
    plot = figure.add_subplot()
    plot.patch.set_alpha(0)
    for side, spine in plot.spines.items():
        spine.set_visible(side == "bottom")
        spine.set(color=paint(AXIS), linewidth=0.8)
    plot.grid(axis="y", color=paint(GRID), linewidth=0.8)
    plot.set_axisbelow(True)
    plot.tick_params(which="both", length=0, labelsize=_SMALL, labelcolor=paint(MUTED), pad=4)
    return figure, plot


# Points; a point is 100/72 CSS pixels at 100 dpi: 7.9 pt are 11 px.
_SMALL = 7.9


def caption(plot: "Axes", *, x: str = "", y: str = "") -> None:
    """Axis titles: below at the right for x, above at the left for y, so that nothing is turned."""
    if x:
        plot.set_xlabel(x, fontsize=_SMALL, color=paint(MUTED), loc="right", labelpad=2)
    if y:
        plot.set_title(y, fontsize=_SMALL, color=paint(MUTED), loc="left", pad=8)


def write(
    plot: "Axes",
    x: float,
    y: float,
    text: str,
    css: str,
    align: Literal["left", "center", "right"] = "left",
) -> None:
    """Small text in axes coordinates (0..1), centred on `y`."""
    plot.text(
        x,
        y,
        text,
        transform=plot.transAxes,
        color=paint(css),
        fontsize=_SMALL,
        ha=align,
        va="center",
        clip_on=False,
    )


def render(figure: "Figure", description: str) -> str:
    """`figure` as an SVG element that scales with its container; `description` is read aloud."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "spikeloom", "svg.id": None}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    text = re.sub(r"\n\s*", "\n", text)
    # Several figures share a page: their ids must not meet.
    own = "f" + hashlib.sha256((description + text).encode()).hexdigest()[:8] + "-"
    text = re.sub(r'\bid="', f'id="{own}', text)
    text = re.sub(r"url\(#", f"url(#{own}", text)
    text = re.sub(r'href="#', f'href="#{own}', text)
    text = re.sub(r"#[0-9a-f]{6}\b", lambda match: _CSS.get(match[0], match[0]), text)
    width, height = figure.get_size_inches() * 72
    # Drawn for this many CSS pixels; a wider container must not blow it up without end.
    widest = round(figure.get_figwidth() * 100 * 1.15)
    label = html.escape(description, quote=True)
    return re.sub(
        r"<svg[^>]*>",
        f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {width:g} {height:g}" '
        f'style="max-width:{widest}px" role="img" aria-label="{label}">',
        text,
        count=1,
    ).strip()
