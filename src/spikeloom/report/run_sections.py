"""The parts of a report that need nothing but the run folder's records."""

import re
from collections.abc import Mapping, Sequence

from spikeloom.report.figures import HALF, SLIM, THIRD, WIDE, Line, curves
from spikeloom.report.html import (
    NOTHING,
    Markup,
    bar,
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
    text,
)
from spikeloom.report.reading import Epoch, Run
from spikeloom.report.svg import palette

TRAIN, TEST, VAL = "var(--muted)", "var(--c1)", "var(--c8)"
_MOST_NAMED = 12
CHOICE = {
    "A": "the highest test accuracy of all epochs: it selects on the test set",
    "B": "the test accuracy of the epoch with the best validation accuracy",
}


def headline(run: Run) -> Markup:
    """Accuracy under its protocol's name, the published figure beside it, and the key figures."""
    best, tiles = run.best, []
    if best is None:
        big = tag("p", NOTHING, class_="big")
        about = "no evaluation yet"
    else:
        big = tag("p", f"{100 * best.test_accuracy:.2f}", tag("small", " %"), class_="big")
        about = f"epoch {best.epoch}; {CHOICE.get(run.protocol, best.metric)}"
    result = tag(
        "div",
        tag("p", f"accuracy-{run.protocol}", class_="over"),
        big,
        _published(run),
        tag("p", about, class_="note"),
        class_="card result",
    )
    done, planned = len(run.epochs), run.planned_epochs
    rates = run.firing_rates
    tiles = [
        ("parameters", count(run.start.parameters), "trainable values in the network"),
        ("time steps", run.time_steps or NOTHING, "T, simulated per sample"),
        ("epochs", done if planned in (done, None) else f"{done} of {planned}", _steps(run)),
        ("training time", duration(run.seconds), _per_epoch(run)),
        ("samples", count(run.start.train_samples), f"test: {count(run.start.test_samples)}"),
        (
            "mean firing rate",
            f"{sum(rates.values()) / len(rates):.3f}" if rates else NOTHING,
            "spikes per neuron and step, mean of the layers",
        ),
    ]
    cells = [
        tag("div", tag("dt", name), tag("dd", value), tag("p", note, class_="note") if note else "")
        for name, value, note in tiles
    ]
    return tag("div", result, tag("dl", *cells, class_="card tiles"), class_="hero")


def status(run: Run) -> Markup:
    """Whether the run is at its end."""
    if run.finished:
        return tag("span", "finished", class_="pill done")
    planned = run.planned_epochs
    so_far = f"{len(run.epochs)} of {planned} epochs" if planned else f"{len(run.epochs)} epochs"
    return tag("span", f"not finished: {so_far}", class_="pill open")


def learning(run: Run) -> Markup:
    """Loss, accuracy and learning rate over the epochs; over steps during the first epoch."""
    if not run.epochs:
        return section("learning", "Learning", _first_epoch(run))
    losses, accuracies, legend = [], [], []
    series = [("training", TRAIN, _training), ("validation", VAL, _val), ("test", TEST, _test)]
    for name, colour, scores in series:
        points = [(e.epoch, scores(e)) for e in run.epochs]
        known = [(x, score) for x, score in points if score is not None]
        if not known:
            continue
        x = [float(x) for x, _ in known]
        losses.append(Line(name, x, [score[0] for _, score in known], colour))
        accuracies.append(Line(name, x, [score[1] for _, score in known], colour))
        legend.append((name, colour))
    x = [float(epoch.epoch) for epoch in run.epochs]
    best, published = run.best, run.published
    level = None if published is None else (published / 100, f"published {published:g} %")
    return section(
        "learning",
        "Learning",
        grid(
            card(
                figure(
                    curves(
                        accuracies,
                        describe="accuracy over epochs",
                        y="accuracy",
                        percent=True,
                        level=level,
                        mark=None if best is None else (best.epoch, best.test_accuracy),
                        size=THIRD,
                    ),
                    legend=legend,
                ),
                title="Accuracy",
                note="The ring marks the epoch that the protocol reports." if best else "",
            ),
            card(
                figure(
                    curves(losses, describe="loss over epochs", y="loss", log=True, size=THIRD),
                    legend=legend,
                ),
                title="Loss",
                note="Mean over the samples of an epoch.",
            ),
            card(
                figure(
                    curves(
                        [Line("learning rate", x, [e.lr for e in run.epochs], TEST)],
                        describe="learning rate over epochs",
                        y="learning rate",
                        size=SLIM,
                    )
                ),
                title="Learning rate",
                note="Constant within an epoch.",
            ),
            kind="trio",
        ),
    )


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
            title=_constant_title(constant),
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


def recipe(run: Run) -> Markup:
    """The whole resolved recipe, and what the run ran on."""
    facts = [tag("div", tag("dt", key), tag("dd", value)) for key, value in run.environment.items()]
    return section(
        "recipe",
        "Recipe and environment",
        grid(
            card(tag("pre", colour_toml(run.recipe_text)), title="Recipe"),
            card(tag("dl", *facts, class_="facts"), title="Environment") if facts else "",
            kind="split",
        ),
        note=join(
            [
                "Everything that the numbers above depend on. The recipe is complete: ",
                tag("code", "spikeloom train recipe.toml"),
                " trains it again.",
            ]
        ),
    )


def colour_toml(source: str) -> Markup:
    """TOML with its table names, keys and comments marked."""
    lines = []
    for line in source.splitlines():
        key = re.match(r"\s*([\w.\-\"]+)(\s*=\s*)(.*)$", line)
        if re.match(r"\s*\[", line):
            lines.append(tag("b", line))
        elif line.lstrip().startswith("#"):
            lines.append(tag("em", line))
        elif key:
            lines.append(join([tag("span", key[1]), key[2], key[3]]))
        else:
            lines.append(text(line))
    return Markup("\n".join(lines))


def _published(run: Run) -> Markup:
    if run.published is None:
        return tag("p", "no published figure in the recipe", class_="published")
    words: list[object] = ["published ", tag("b", f"{run.published:.2f} %")]
    if run.best is not None:
        points = 100 * run.best.test_accuracy - run.published
        side = "above" if points > 0 else "below"
        same = abs(points) < 0.005
        words.append(" · equal" if same else f" · {abs(points):.2f} points {side}")
    return tag("p", *words, class_="published")


def _steps(run: Run) -> str:
    last = max((epoch.step for epoch in run.epochs), default=0)
    return f"{last:,} optimizer steps"


def _per_epoch(run: Run) -> str:
    if not run.epochs:
        return ""
    mean = sum(epoch.seconds for epoch in run.epochs) / len(run.epochs)
    return f"{duration(mean)} per epoch"


def _first_epoch(run: Run) -> Markup:
    if not run.steps:
        return card("Nothing has been recorded yet.")
    x = [float(step.step) for step in run.steps]
    return grid(
        *(
            card(
                figure(
                    curves(
                        [Line(name, x, values, TRAIN)],
                        describe=f"{name} over optimizer steps",
                        y=name,
                        x="optimizer step",
                        percent=name == "accuracy",
                    )
                ),
                title=name.capitalize(),
                note="Single mini-batches of the first epoch, which is not over.",
            )
            for name, values in (
                ("accuracy", [step.accuracy for step in run.steps]),
                ("loss", [step.loss for step in run.steps]),
            )
        )
    )


def _training(epoch: Epoch) -> tuple[float, float]:
    return epoch.train_loss, epoch.train_accuracy


def _val(epoch: Epoch) -> tuple[float, float] | None:
    return (epoch.val.loss, epoch.val.accuracy) if epoch.val else None


def _test(epoch: Epoch) -> tuple[float, float] | None:
    return (epoch.test.loss, epoch.test.accuracy) if epoch.test else None


def _with(epochs: Sequence[Epoch], constant: str) -> list[str]:
    """The layers that have this constant."""
    keys = dict.fromkeys(key for e in epochs for key in e.constants)
    return [key.rpartition("/")[0] for key in keys if key.rpartition("/")[2] == constant]


def _legend(layers: Sequence[str], colours: Mapping[str, str]) -> list[tuple[str, str]]:
    """None for many layers: the table below shows their colours, which are a ramp from the input
    to the output."""
    return [(layer, colours[layer]) for layer in layers] if len(layers) <= _MOST_NAMED else []


def _constant_title(constant: str) -> str:
    return "Membrane time constant" if constant == "tau" else f"Constant {constant}"


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
    """What a method logs besides, folded away."""
    names = list(dict.fromkeys(name for e in run.epochs for name in e.scalars))
    if not names:
        return Markup()
    lines = []
    for name, colour in zip(names, palette(len(names)), strict=True):
        known = [e for e in run.epochs if name in e.scalars]
        x = [float(e.epoch) for e in known]
        lines.append(Line(name, x, [e.scalars[name] for e in known], colour))
    svg = curves(lines, describe="scalars of the method over epochs", y="value", size=WIDE)
    chart = figure(svg, legend=[(line.label, line.colour) for line in lines])
    return tag("details", tag("summary", "Further scalars of the method"), chart, class_="card")


def accuracy_row(run: Run) -> str:
    """The run's result in one phrase, for the description of the page."""
    best = run.best
    if best is None:
        return f"{run.name}: no evaluation yet"
    return f"{run.name}: accuracy-{run.protocol} {percent(best.test_accuracy)}"
