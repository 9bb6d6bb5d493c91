"""Constants and firing rates of every layer, over the epochs and at the end."""

from collections.abc import Mapping, Sequence

from spikeloom.report.figures import HALF, Line, curves
from spikeloom.report.html import (
    NOTHING,
    Markup,
    bar,
    card,
    figure,
    grid,
    join,
    section,
    table,
    tag,
)
from spikeloom.report.reading import Epoch, Run
from spikeloom.report.svg import palette

_MOST_NAMED = 12


def layers(run: Run) -> Markup:
    """Learned constants and firing rates of every layer, over the epochs and at the end."""
    if not run.epochs:
        return Markup()
    names = layer_names(run)
    colours = dict(zip(names, palette(len(names)), strict=True))
    constants = constant_names(run.epochs)
    cards = [
        card(
            figure(
                constant_curves(run.epochs, constant, colours),
                legend=_legend(_with(run.epochs, constant), colours),
            ),
            title=constant_title(constant),
            note=_constant_note(constant),
        )
        for constant in constants
    ]
    rates = rate_curves(run.epochs, colours)
    if rates:
        cards.append(
            card(
                figure(rates, legend=_legend(list(run.firing_rates), colours)),
                title="Firing rate",
                note="Spikes per neuron and time step, over the test set.",
            )
        )
    return section(
        "layers",
        "Layers",
        grid(*cards),
        card(_layer_table(run, colours, constants), title="At the last epoch", wide=True),
        _scalars(run),
    )


def layer_names(run: Run) -> list[str]:
    """Every neuron layer that the records name, in module order."""
    names: dict[str, None] = {}
    for epoch in run.epochs:
        names |= dict.fromkeys(key.rpartition("/")[0] for key in epoch.constants)
        names |= dict.fromkeys(epoch.test.firing_rates if epoch.test else ())
    rates = list(run.firing_rates)
    return sorted(names, key=lambda name: rates.index(name) if name in rates else len(rates))


def constant_names(epochs: Sequence[Epoch]) -> list[str]:
    """The constants that some layer has, as "tau"."""
    return list(dict.fromkeys(key.rpartition("/")[2] for e in epochs for key in e.constants))


def constant_curves(
    epochs: Sequence[Epoch],
    constant: str,
    colours: Mapping[str, str],
    *,
    size: tuple[float, float] = HALF,
    of: str = "every layer",
) -> str:
    """One constant of all layers over the epochs: the mean, in a band from minimum to maximum."""
    lines = []
    for layer in _with(epochs, constant):
        spreads = [(e.epoch, e.constants.get(f"{layer}/{constant}")) for e in epochs]
        known = [(float(x), spread) for x, spread in spreads if spread is not None]
        lines.append(
            Line(
                layer,
                [x for x, _ in known],
                [spread.mean for _, spread in known],
                colours[layer],
                low=[spread.min for _, spread in known],
                high=[spread.max for _, spread in known],
            )
        )
    return curves(
        lines,
        describe=f"{constant} of {of} over epochs",
        y=_constant_unit(constant),
        log=True,
        size=size,
        ends=(lambda value: f"{value:.3g}") if len(lines) <= _MOST_NAMED else None,
    )


def rate_curves(
    epochs: Sequence[Epoch],
    colours: Mapping[str, str],
    *,
    size: tuple[float, float] = HALF,
    of: str = "every layer",
) -> str:
    """Firing rates of all layers over the epochs; empty if none was recorded."""
    tests = [(float(e.epoch), e.test.firing_rates) for e in epochs if e.test is not None]
    names = dict.fromkeys(layer for _, rates in tests for layer in rates)
    lines = [
        Line(
            layer,
            [x for x, rates in tests if layer in rates],
            [rates[layer] for _, rates in tests if layer in rates],
            colours[layer],
        )
        for layer in names
    ]
    if not lines:
        return ""
    return curves(
        lines,
        describe=f"firing rate of {of} over epochs",
        y="spikes per neuron and step",
        size=size,
        ends=(lambda value: f"{value:.3f}") if len(lines) <= _MOST_NAMED else None,
    )


def constant_title(constant: str) -> str:
    return "Membrane time constant" if constant == "tau" else f"Constant {constant}"


def _with(epochs: Sequence[Epoch], constant: str) -> list[str]:
    """The layers that have this constant."""
    keys = dict.fromkeys(key for e in epochs for key in e.constants)
    return [key.rpartition("/")[0] for key in keys if key.rpartition("/")[2] == constant]


def _legend(layers: Sequence[str], colours: Mapping[str, str]) -> list[tuple[str, str]]:
    """None for many layers: the table below shows their colours, which are a ramp from the input
    to the output."""
    return [(layer, colours[layer]) for layer in layers] if len(layers) <= _MOST_NAMED else []


def _constant_unit(constant: str) -> str:
    return "tau, in time steps" if constant == "tau" else constant


def _constant_note(constant: str) -> str:
    meaning = "A potential decays by 1/e in about tau steps. " if constant == "tau" else ""
    return f"{meaning}Mean of each layer; the band, if any, runs from its minimum to its maximum."


def _layer_table(run: Run, colours: Mapping[str, str], constants: Sequence[str]) -> Markup:
    last, rates = run.epochs[-1], run.firing_rates
    top = max(rates.values(), default=0) or 1.0
    rows = []
    for layer, colour in colours.items():
        name = join([tag("i", class_="chip", style=f"background:{colour}"), tag("code", layer)])
        cells: list[object] = [name]
        for constant in constants:
            spread = last.constants.get(f"{layer}/{constant}")
            if spread is None:
                cells.append(NOTHING)
            elif spread.min == spread.max:
                cells.append(f"{spread.mean:.3g}")
            else:
                span = f" ({spread.min:.3g} to {spread.max:.3g})"
                cells.append(join([f"{spread.mean:.3g}", tag("small", span)]))
        rate = rates.get(layer)
        cells.append(NOTHING if rate is None else f"{rate:.4f}")
        cells.append("" if rate is None else bar(rate / top, colour))
        rows.append(cells)
    head = ["layer", *constants, "firing rate", ""]
    return table(head, rows, numeric=range(1, len(constants) + 2))


def _scalars(run: Run) -> Markup:
    """What a method logs besides, folded away: a chart each, names that end in numbers together."""
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for e in run.epochs for name in e.scalars):
        groups.setdefault(name.rstrip("0123456789"), []).append(name)
    if not groups:
        return Markup()
    cards = []
    for group, names in groups.items():
        lines = []
        for name, colour in zip(names, palette(len(names)), strict=True):
            known = [e for e in run.epochs if name in e.scalars]
            x = [float(e.epoch) for e in known]
            lines.append(Line(name, x, [e.scalars[name] for e in known], colour))
        svg = curves(lines, describe=f"{group} over epochs", y="value", log=True, size=HALF)
        legend = [(line.label, line.colour) for line in lines] if len(lines) > 1 else ()
        cards.append(card(figure(svg, legend=legend), title=group if legend else names[0]))
    summary = tag("summary", "Further scalars of the method")
    return tag("details", summary, grid(*cards), class_="card")
