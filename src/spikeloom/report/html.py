"""Small pieces of HTML, every text escaped, and numbers as people read them."""

from collections.abc import Iterable, Sequence
from html import escape

NOTHING = "\N{EN DASH}"
"""Stands for a value that is not known or does not apply."""

SIGNS = {"p": 1e-12, "n": 1e-9, "µ": 1e-6, "m": 1e-3}


class Markup(str):
    """HTML that is finished; any other string is text that still has to be escaped."""


def text(value: object) -> Markup:
    """`value` as HTML: markup unchanged, everything else escaped."""
    return value if isinstance(value, Markup) else Markup(escape(str(value), quote=True))


def tag(name: str, *content: object, **attributes: object) -> Markup:
    """An element. Attributes: `class_`, `for_`, ... lose the underscore; None and False are left
    out; True stands alone."""
    words = []
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(f" {key}")
        elif value is not None and value is not False:
            words.append(f' {key}="{text(value)}"')
    inner = "".join(text(item) for item in content)
    return Markup(f"<{name}{''.join(words)}>{inner}</{name}>")


def join(parts: Iterable[object]) -> Markup:
    return Markup("".join(text(part) for part in parts))


def section(anchor: str, title: str, *content: object, note: object = "") -> Markup:
    """A titled part of the page; nothing at all if it has no content."""
    if not any(content):
        return Markup()
    lead = tag("p", note, class_="lead") if note else ""
    return tag("section", tag("h2", title), lead, *content, id=anchor)


def card(*content: object, title: str = "", note: object = "", wide: bool = False) -> Markup:
    """A framed box with a heading and, below it, one line of explanation."""
    head = tag("h3", title) if title else ""
    lead = tag("p", note, class_="note") if note else ""
    return tag("div", head, lead, *content, class_="card wide" if wide else "card")


def grid(*cards: object, kind: str = "grid") -> Markup:
    return tag("div", *cards, class_=kind) if any(cards) else Markup()


def figure(svg: str, *, legend: Sequence[tuple[str, str]] = ()) -> Markup:
    """A chart with its legend of (name, CSS colour) above it."""
    keys = [
        tag("li", tag("i", style=f"background:{colour}"), name, class_="key")
        for name, colour in legend
    ]
    return tag("figure", tag("ul", *keys, class_="legend") if keys else "", Markup(svg))


def table(
    head: Sequence[object], rows: Iterable[Sequence[object]], *, numeric: Iterable[int] = ()
) -> Markup:
    """A table that scrolls sideways where it is too wide; columns in `numeric` align right."""
    right = set(numeric)

    def line(kind: str, cells: Sequence[object]) -> Markup:
        return tag(
            "tr",
            *(tag(kind, cell, class_=_kind(cell, i in right)) for i, cell in enumerate(cells)),
        )

    body = tag("tbody", *(line("td", row) for row in rows))
    return tag(
        "div", tag("table", tag("thead", line("th", head)), body), class_="scroll", tabindex=0
    )


def _kind(cell: object, right: bool) -> str | None:
    if isinstance(cell, Bar):
        return "wide"
    return "n" if right else None


class Bar(Markup):
    """A bar, which gives its column room."""


def bar(share: float, colour: str) -> Bar:
    """A horizontal bar that fills `share` (0..1) of its cell."""
    width = f"{100 * min(max(share, 0.0), 1.0):.1f}%"
    return Bar(tag("span", tag("i", style=f"width:{width};background:{colour}"), class_="bar"))


def percent(fraction: float | None, digits: int = 2) -> str:
    """0.9861 -> "98.61 %"."""
    return NOTHING if fraction is None else f"{100 * fraction:.{digits}f} %"


def count(value: float | None) -> str:
    """13198980 -> "13.2 M"; below ten thousand every digit."""
    if value is None:
        return NOTHING
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if sign == 'k' else size):.3g} {sign}"
    return f"{value:,.0f}"


def energy(picojoule: float) -> str:
    """1234567 -> "1.23 µJ"."""
    joule = picojoule * 1e-12
    sign, unit = next(
        ((sign, unit) for sign, unit in SIGNS.items() if joule < 1000 * unit), ("", 1.0)
    )
    return f"{joule / unit:.3g} {sign}J"


def duration(seconds: float) -> str:
    """75 -> "1 min 15 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
