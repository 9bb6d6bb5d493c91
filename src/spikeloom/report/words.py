"""Numbers as people read them."""

NOTHING = "\N{EN DASH}"
"""Stands for a value that is not known or does not apply."""

_SIGNS = {"p": 1e-12, "n": 1e-9, "µ": 1e-6, "m": 1e-3}


def percent(fraction: float | None, digits: int = 2) -> str:
    """0.9861 -> "98.61 %"."""
    return NOTHING if fraction is None else f"{100 * fraction:.{digits}f} %"


def score(value: float | None, figure: str) -> str:
    """An accuracy in percent; r2 as it is, "0.9861"."""
    return f"{value:.4f}" if figure == "r2" and value is not None else percent(value)


def points(difference: float) -> str:
    """-1.09 -> "1.09 points below"."""
    if abs(difference) < 0.005:
        return "equal"
    return f"{abs(difference):.2f} points {'above' if difference > 0 else 'below'}"


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
        ((sign, unit) for sign, unit in _SIGNS.items() if joule < 1000 * unit), ("", 1.0)
    )
    return f"{joule / unit:.3g} {sign}J"
