"""`docs/results.md`: the papers' tables with our figures beside them, from `benchmarks/records`.

    python -m benchmarks results [--check]

Nothing is typed by hand: ours come from the records, the published ones from `published.py`.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.published import Row, rows
from benchmarks.records import Kept, kept
from spikeloom import files
from spikeloom.config.schema import Recipe
from spikeloom.data.survey import FOREIGN
from spikeloom.errors import ConfigError
from spikeloom.methods.catalog import load_recipe
from spikeloom.plot.lines import Line, curves
from spikeloom.plot.style import palette

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
CURVES = PAGE.parent / "images" / "results.svg"
CURVES_OF = ("mnist", "fashion-mnist")
AT_HAND = ("mnist", "fashion-mnist", "cifar10")  # whole, as published
HEAD = """\
# Results

What the five papers print, and what this library gives. Made by `python -m benchmarks results` from
the committed records of runs (`benchmarks/records`: recipe, accuracies of each epoch, machine),
which hold no weights; `python -m benchmarks record RUN NAME` adds one.

Accuracies in percent. **A** is the highest test accuracy of any epoch, as the papers print it: it
selects on the test set. **B** is the test accuracy of the epoch that a validation set chose, 15 %
of the training set (5 % for the compact networks), which was not trained on. Where a run kept no
such set, B says "not run". Several seeds: mean ± standard deviation (number). "threads=1" and a
seed make a run repeat bit for bit on one machine and version. A record is of the code of its day:
since then kernels may add in another order, which moves an accuracy by a few samples.

"""
CURVES_TEXT = """\
## Curves

Test error by epoch, of every record on MNIST and Fashion-MNIST; of several seeds the mean.

![Test error by epoch](images/results.svg)
"""
OURS = """\
## Networks of ours

Smaller networks, short schedules, data that come with the package, and parts of data sets: no paper
has these rows.
What A and B have in one row is of one training, with the validation set left out. Times are those
of a machine that others used. The weights are in the package: `spikeloom zoo`.

"""


def page() -> str:
    """The whole page."""
    groups = _groups(kept())
    text, used = HEAD, set()
    table = list(rows())
    for method in dict.fromkeys(row.method for row in table):
        lines = []
        for row in (row for row in table if row.method == method):
            recipe = load_recipe(row.recipe, row.changes)
            found = [group for group in groups if _same_experiment(recipe, group[0].recipe)]
            used.update(group[0].name for group in found)
            lines += _row(row, recipe, found)
        columns = ("network", "data", "published", "A", "B", "epochs", "machine", "command")
        text += f"## {method}\n\n{_table(columns, lines)}\n"
    text += "## FS coding\n\nIts paper's code came without a table of accuracies.\n\n" + OURS
    columns = ("data", "samples", "A", "B", "epochs", "time", "machine", "command")
    others = [group for group in groups if group[0].name not in used]
    return f"{text}{_table(columns, [_other(group) for group in others])}\n{CURVES_TEXT}"


def write(*, check: bool) -> None:
    """Writes the page. With `check`, raises `ConfigError` if it is not what it should be."""
    text = page()
    if not check:
        files.write(PAGE, text)
        _draw()
    elif not PAGE.exists() or PAGE.read_text() != text:
        raise ConfigError("docs/results.md is not current: run `python -m benchmarks results`")


def _draw() -> None:
    """The picture of the curves."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "results"
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(CURVES_OF), figsize=(9, 3.4), layout="constrained")
    for panel, data in zip(panels, CURVES_OF, strict=True):
        groups = [g for g in _groups(kept()) if g[0].recipe.data.name == data]
        colours = palette(len(groups))
        curves(list(map(_curve, groups, colours)), y="test error, %", log=True, ax=panel)
        panel.set_title(data)
        panel.legend(fontsize=7)
    figure.savefig(CURVES, metadata={"Date": None})


def _curve(group: Sequence[Kept], colour: str) -> Line:
    """The test error by epoch, the mean over seeds."""
    errors = [[100 * (1 - test) for _, test, _ in record.epochs] for record in group]
    name = group[0].command.partition("train ")[2].partition(" ")[0]
    if " channels=" in group[0].command:
        name += ", narrow"
    mean = [statistics.mean(column) for column in zip(*errors, strict=True)]
    return Line(name, [epoch + 1 for epoch, _, _ in group[0].epochs], mean, colour)


def _groups(records: Sequence[Kept]) -> list[list[Kept]]:
    """Those that differ in their seed alone, together."""
    groups: dict[str, list[Kept]] = {}
    for record in records:
        alike = record.recipe.model_copy(update={"seed": 0})
        groups.setdefault(alike.model_dump_json(), []).append(record)
    return list(groups.values())


def _same_experiment(published: Recipe, ours: Recipe) -> bool:
    """Whether the network, the data and the protocol are those of the row; epochs are told."""
    return (
        published.network == ours.network
        and published.data.name == ours.data.name
        and published.protocol.name == ours.protocol.name
    )


def _row(row: Row, recipe: Recipe, found: Sequence[Sequence[Kept]]) -> list[tuple[str, ...]]:
    deviation = "" if row.deviation is None else f" ± {row.deviation:.2f}"
    start = (row.network, recipe.data.name, f"{row.value:.2f}{deviation}")
    epochs = recipe.training.epochs
    if not found:
        command = " ".join(["spikeloom train", row.recipe, *row.changes])
        why = (
            f"not run: {epochs:,} epochs are too long for two CPU cores"
            if recipe.data.name in AT_HAND
            else "not run: the data are not at hand"
        )
        return [(*start, why, "", f"{epochs:,}", "", f"`{command}`")]
    return [
        (
            *start,
            _mean([record.accuracy_a for record in group]),
            _b(group),
            _epochs(group[0], epochs),
            _machine(group[0]),
            _command(group),
        )
        for group in found
    ]


def _other(group: Sequence[Kept]) -> tuple[str, ...]:
    first = group[0]
    copied = any(note.startswith(FOREIGN) for note in first.notes)
    return (
        first.recipe.data.name + f" ({FOREIGN})" * copied,
        f"{first.train_samples:,} / {first.test_samples:,}",
        _mean([record.accuracy_a for record in group]),
        _b(group),
        f"{first.length}",
        f"{statistics.mean(record.seconds for record in group):,.0f} s",
        _machine(first),
        _command(group),
    )


def _b(group: Sequence[Kept]) -> str:
    values = [value for record in group if (value := record.accuracy_b) is not None]
    return _mean(values) if values else "not run"


def _mean(values: Sequence[float]) -> str:
    mean = f"{100 * statistics.mean(values):.2f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {100 * statistics.stdev(values):.2f} ({len(values)})"


def _epochs(record: Kept, published: int) -> str:
    ours = record.length
    return f"{ours:,}" if ours == published else f"{ours:,} of {published:,}"


def _machine(record: Kept) -> str:
    return f"{record.facts['processor']}, {record.facts['threads']} thread"


def _command(group: Sequence[Kept]) -> str:
    command = group[0].command
    if len(group) == 1:
        return f"`{command}`"
    seeds = ", ".join(str(record.recipe.seed) for record in group)
    return f"`{command.replace(f'seed={group[0].recipe.seed}', 'seed=S')}`, S = {seeds}"


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*head, *("| " + " | ".join(line) + " |" for line in lines)]) + "\n"
