"""Several runs side by side: one table, one picture, overlaid curves, layers, what differs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from spikeloom.plot.lines import Line
from spikeloom.plot.measures import constant_names
from spikeloom.plot.style import palette
from spikeloom.report import charts
from spikeloom.report.examination import Examination
from spikeloom.report.summary import Group, Row, grouped, paired_differences, summary
from spikeloom.run.reading import EpochRecord, RunRecord

APART = ("title", "notes", "origin", "label", "source", "seed")
"""Keys of a recipe that say nothing about how a run was trained, or are shown elsewhere."""


def comparison(
    runs: Sequence[RunRecord], examinations: Sequence[Examination | str]
) -> dict[str, Any]:
    """What the page about several runs is filled with, in the order given."""
    rows = [summary(run, shown) for run, shown in zip(runs, examinations, strict=True)]
    groups = grouped(runs, rows)
    colours = _colours(runs)
    names = _names(runs)
    titles = list(dict.fromkeys(str(row["method"]).upper() for row in rows))
    protocols = sorted({run.protocol for run in runs})
    keyed = list(zip(names, map(charts.css, colours), strict=True))
    return {
        "title": f"{len(runs)} runs side by side: {', '.join(titles)}",
        "runs": runs,
        "rows": [
            row | {"name": name, "colour": colour, "run": run}
            for row, run, (name, colour) in zip(rows, runs, keyed, strict=True)
        ],
        "columns": {
            name: any(row[name] is not None for row in rows)
            for name in ("published", "latency_ms", "memory_mb")
        },
        "groups": [group for group in groups if len(group.rows) > 1],
        "differences": paired_differences(groups),
        "protocols": protocols,
        "data_sets": list(dict.fromkeys(row["data"] for row in rows)),
        "answer": answer(rows, names),
        "reasons": [
            (name, shown)
            for name, shown in zip(names, examinations, strict=True)
            if isinstance(shown, str)
        ],
        "tradeoff": _tradeoff(rows, names, colours),
        "courses": _courses(examinations, names, colours),
        "accuracy": _overlay(runs, names, colours, lambda e: e.test.accuracy if e.test else None),
        "losses": _losses(runs, names, colours),
        "methods": _layers(runs, names),
        "differing": _differences(runs),
        "keyed": keyed,
    }


def answer(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Who needs the fewest spikes among those about as accurate as the best on the same data."""
    told = []
    for data in dict.fromkeys(row["data"] for row in rows):
        here = [
            (row, name)
            for row, name in zip(rows, names, strict=True)
            if row["data"] == data and row["accuracy"] is not None and row["spikes_per_sample"]
        ]
        if len(here) < 2:
            continue
        best = max(row["accuracy"] for row, _ in here)
        near = [(row, name) for row, name in here if row["accuracy"] >= best - 0.01]
        row, name = min(near, key=lambda pair: pair[0]["spikes_per_sample"])
        told.append(
            f"On {data} the fewest spikes within one point of the best accuracy "
            f"({100 * best:.2f} %) are those of {name}: {row['spikes_per_sample']:,.0f} a sample "
            f"at {100 * row['accuracy']:.2f} %."
        )
    return " ".join(told)


def flatten(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A recipe's values by dotted key."""
    flat: dict[str, str] = {}
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = str(value)
    return flat


def _names(runs: Sequence[RunRecord]) -> list[str]:
    """Method and folder of each run; the folder alone tells them apart within one method."""
    names = [run.name for run in runs]
    short = [run.folder.resolve().name for run in runs]
    return short if len(set(short)) == len(short) and not any(s.isdigit() for s in short) else names


def _colours(runs: Sequence[RunRecord]) -> list[str]:
    """One colour for each run; seeds of one recipe share theirs."""
    keys = [Group.key_of(run) for run in runs]
    distinct = list(dict.fromkeys(keys))
    hues = dict(zip(distinct, palette(len(distinct)), strict=True))
    return [hues[key] for key in keys]


def _overlay(
    runs: Sequence[RunRecord],
    names: Sequence[str],
    colours: Sequence[str],
    value: Callable[[EpochRecord], float | None],
    what: str = "test accuracy",
) -> charts.Chart | None:
    lines = []
    for run, name, colour in zip(runs, names, colours, strict=True):
        known = [(float(e.epoch), y) for e in run.epochs if (y := value(e)) is not None]
        if known:
            lines.append(Line(name, [x for x, _ in known], [y for _, y in known], colour))
    if not lines:
        return None
    if "accuracy" in what:
        return charts.overlay(lines, what, percent=True)
    return charts.overlay(lines, what, log=True, size=charts.PANEL)


def _losses(
    runs: Sequence[RunRecord], names: Sequence[str], colours: Sequence[str]
) -> Iterator[tuple[str, charts.Chart]]:
    """Training losses, those of different kinds apart: their numbers do not compare."""
    kinds: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        loss = run.setting("network.loss") or run.setting("network.readout")
        kind = str(run.setting("method", "?")) + (f", {loss}" if loss else "")
        kinds.setdefault(kind, []).append(index)
    for kind, members in kinds.items():
        chart = _overlay(
            [runs[i] for i in members],
            [names[i] for i in members],
            [colours[i] for i in members],
            lambda e: e.train_loss,
            "training loss",
        )
        if chart is not None:
            yield kind, chart


def _courses(
    examinations: Sequence[Examination | str], names: Sequence[str], colours: Sequence[str]
) -> charts.Chart | None:
    courses = {
        name: (shown.latency, colour)
        for shown, name, colour in zip(examinations, names, colours, strict=True)
        if isinstance(shown, Examination) and len(shown.latency) > 1
    }
    return charts.by_latency(courses) if courses else None


def _tradeoff(
    rows: Sequence[Row], names: Sequence[str], colours: Sequence[str]
) -> charts.Chart | None:
    shown = [
        (name, row["energy_nj"], row["accuracy"], row["ms_per_step"], colour)
        for row, name, colour in zip(rows, names, colours, strict=True)
        if row["energy_nj"] and row["accuracy"] is not None
    ]
    return charts.tradeoff(shown) if len(shown) > 1 else None


def _layers(runs: Sequence[RunRecord], names: Sequence[str]) -> list[dict[str, Any]]:
    """By method: small charts of the rates of its runs, on one axis for all, and of constants."""
    top = max((rate for run in runs for rate in run.firing_rates.values()), default=0.0)
    folds: dict[str, dict[str, Any]] = {}
    for run, name in zip(runs, names, strict=True):
        method = str(run.setting("method", "?"))
        fold = folds.setdefault(method, {"method": method, "rates": [], "constants": {}})
        if run.firing_rates:
            fold["rates"].append((name, charts.rates(run, charts.PANEL, top=1.05 * (top or 1))))
        for constant in constant_names(run.epochs):
            panel = charts.constant(run, constant, charts.PANEL)
            fold["constants"].setdefault(constant, []).append((name, panel))
    return list(folds.values())


def _differences(runs: Sequence[RunRecord]) -> dict[str, list[tuple[str, list[str]]]]:
    """The keys that are not equal in all runs: those that all of them have, and the others."""
    flat = [flatten(run.recipe) for run in runs]
    keys = list(dict.fromkeys(key for recipe in flat for key in recipe))
    differing: dict[str, list[tuple[str, list[str]]]] = {"shared": [], "others": []}
    for key in keys:
        values = [recipe.get(key, "\N{EN DASH}") for recipe in flat]
        if len(set(values)) == 1 or key in APART or key.startswith("published."):
            continue
        everywhere = all(key in recipe for recipe in flat)
        differing["shared" if everywhere else "others"].append((key, values))
    return differing
