"""The parts of a report that need nothing but the run folder's records."""

import re

from spikeloom.report.figures import SLIM, THIRD, Line, curves
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
    tag,
    text,
)
from spikeloom.report.reading import Epoch, Run

TRAIN, TEST, VAL = "var(--muted)", "var(--c1)", "var(--c8)"
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


def accuracy_row(run: Run) -> str:
    """The run's result in one phrase, for the description of the page."""
    best = run.best
    if best is None:
        return f"{run.name}: no evaluation yet"
    return f"{run.name}: accuracy-{run.protocol} {percent(best.test_accuracy)}"


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
