"""Several runs side by side: a table, overlaid curves, each run's constants, what differs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spikeloom.report.figures import PANEL, Line, curves
from spikeloom.report.html import (
    NOTHING,
    Markup,
    card,
    count,
    duration,
    figure,
    grid,
    join,
    percent,
    section,
    table,
    tag,
)
from spikeloom.report.layer_sections import (
    constant_curves,
    constant_names,
    constant_title,
    layer_names,
    rate_curves,
)
from spikeloom.report.reading import Epoch, Run
from spikeloom.report.run_sections import colour_toml, status
from spikeloom.report.svg import palette


def compare(runs: Sequence[Run]) -> Markup:
    """Everything about several runs, in the order given."""
    colours = palette(len(runs))
    return join(
        [
            _overview(runs, colours),
            _curves(runs, colours),
            _layers(runs, colours),
            _differences(runs, colours),
            _recipes(runs, colours),
        ]
    )


def flatten(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A recipe's values by dotted key."""
    flat: dict[str, str] = {}
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = str(value)
    return flat


def _overview(runs: Sequence[Run], colours: Sequence[str]) -> Markup:
    # Accuracy-A selects on the test set and accuracy-B does not: never one column for both.
    protocols = sorted({run.protocol for run in runs})
    rows = []
    for run, colour in zip(runs, colours, strict=True):
        best = run.best
        accuracies = [
            percent(best.test_accuracy) if best and run.protocol == protocol else NOTHING
            for protocol in protocols
        ]
        rows.append(
            [
                join([_chip(colour), tag("b", run.name), Markup("<br>"), tag("small", run.title)]),
                *(tag("b", value) for value in accuracies),
                NOTHING if run.published is None else f"{run.published:.2f} %",
                NOTHING if best is None else best.epoch,
                len(run.epochs),
                run.time_steps or NOTHING,
                count(run.start.parameters),
                duration(run.seconds),
                status(run),
            ]
        )
    named = [f"accuracy-{protocol}" for protocol in protocols]
    head = ["run", *named, "published", "at epoch", "epochs", "T", "parameters", "time", ""]
    return section(
        "runs",
        "Runs",
        card(table(head, rows, numeric=range(1, len(head) - 1)), wide=True),
        note="Accuracy-A is the highest test accuracy of all epochs, accuracy-B the test accuracy "
        "at the best validation accuracy. The published figure is that of the run's protocol.",
    )


def _curves(runs: Sequence[Run], colours: Sequence[str]) -> Markup:
    legend = [(run.name, colour) for run, colour in zip(runs, colours, strict=True)]

    def overlay(values: Callable[[Epoch], float | None]) -> list[Line]:
        lines = []
        for run, colour in zip(runs, colours, strict=True):
            known = [(e.epoch, value) for e in run.epochs if (value := values(e)) is not None]
            if known:
                x, y = zip(*known, strict=True)
                lines.append(Line(run.name, [float(i) for i in x], y, colour))
        return lines

    cards = []
    for title, lines, options in (
        (
            "Test accuracy",
            overlay(lambda e: e.test.accuracy if e.test else None),
            {"y": "accuracy", "percent": True},
        ),
        ("Training loss", overlay(lambda e: e.train_loss), {"y": "loss", "log": True}),
    ):
        if lines:
            svg = curves(lines, describe=f"{title.lower()} of every run over epochs", **options)
            cards.append(card(figure(svg, legend=legend), title=title))
    return section("curves", "Learning", grid(*cards))


def _layers(runs: Sequence[Run], colours: Sequence[str]) -> Markup:
    """One small figure per run and constant, and per run for the firing rates."""
    parts, numbers = [], range(1, len(runs) + 1)
    names = list(dict.fromkeys(name for run in runs for name in layer_names(run)))
    hues = dict(zip(names, palette(len(names)), strict=True))
    legend = tag(
        "ul",
        *(tag("li", tag("i", style=f"background:{hue}"), name) for name, hue in hues.items()),
        class_="legend",
    )
    constants = list(dict.fromkeys(c for run in runs for c in constant_names(run.epochs)))
    for constant in constants:
        panels = [
            _panel(
                run,
                colour,
                constant_curves(
                    run.epochs, constant, hues, size=PANEL, of=f"run {number}, {run.name}"
                ),
            )
            for number, run, colour in zip(numbers, runs, colours, strict=True)
            if constant in constant_names(run.epochs)
        ]
        drawn = grid(*panels, kind="panels")
        parts.append(card(legend, drawn, title=constant_title(constant), wide=True))
    panels = [
        _panel(run, colour, svg)
        for number, run, colour in zip(numbers, runs, colours, strict=True)
        if (svg := rate_curves(run.epochs, hues, size=PANEL, of=f"run {number}, {run.name}"))
    ]
    if panels:
        note = "Spikes per neuron and time step, over the test set."
        rates = grid(*panels, kind="panels")
        parts.append(card(legend, rates, title="Firing rate", note=note, wide=True))
    return section("layers", "Layers", *parts)


def _panel(run: Run, colour: str, svg: str) -> Markup:
    return tag("figure", tag("figcaption", _chip(colour), run.name), Markup(svg))


def _differences(runs: Sequence[Run], colours: Sequence[str]) -> Markup:
    """The keys of the recipes that are not equal in all runs."""
    flat = [flatten(run.recipe) for run in runs]
    keys = list(dict.fromkeys(key for recipe in flat for key in recipe))
    rows = [
        [tag("code", key), *(recipe.get(key, NOTHING) for recipe in flat)]
        for key in keys
        if len({recipe.get(key) for recipe in flat}) > 1
    ]
    head = ["key", *(join([_chip(c), run.name]) for run, c in zip(runs, colours, strict=True))]
    return section(
        "differences",
        "What differs in the recipes",
        card(table(head, rows) if rows else "Nothing: the recipes are equal.", wide=True),
    )


def _recipes(runs: Sequence[Run], colours: Sequence[str]) -> Markup:
    parts = []
    for run, colour in zip(runs, colours, strict=True):
        facts = [
            tag("div", tag("dt", key), tag("dd", value)) for key, value in run.environment.items()
        ]
        parts.append(
            tag(
                "details",
                tag("summary", _chip(colour), run.name, " ", tag("small", run.title)),
                grid(
                    tag("pre", colour_toml(run.recipe_text)),
                    tag("dl", *facts, class_="facts"),
                    kind="split",
                ),
                class_="card",
            )
        )
    return section("recipe", "Recipes and environments", *parts)


def _chip(colour: str) -> Markup:
    return tag("i", class_="chip", style=f"background:{colour}")
