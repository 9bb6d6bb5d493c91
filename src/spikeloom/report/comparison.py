"""Several runs side by side: one table, one picture, overlaid curves, layers, what differs."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from spikeloom.plot.lines import Line, accuracy_floor
from spikeloom.plot.measures import constant_names
from spikeloom.plot.style import palette
from spikeloom.report import charts
from spikeloom.report.examination import Examination
from spikeloom.report.summary import APART, Group, Row, grouped, paired_differences, summary
from spikeloom.report.words import NOTHING
from spikeloom.run.reading import EpochRecord, RunRecord, flatten


class Side(NamedTuple):
    """A run with what is shown about it."""

    run: RunRecord
    examination: Examination | str
    row: Row
    name: str
    colour: str


def comparison(
    runs: Sequence[RunRecord], examinations: Sequence[Examination | str]
) -> dict[str, Any]:
    """What the page about several runs is filled with, in the order given."""
    rows = [summary(run, shown) for run, shown in zip(runs, examinations, strict=True)]
    groups = grouped(runs, rows)
    sides = [
        Side(*side)
        for side in zip(runs, examinations, rows, _names(runs), _colours(runs), strict=True)
    ]
    titles = list(dict.fromkeys(str(row["method"]).upper() for row in rows))
    return {
        "title": f"{len(runs)} runs side by side: {', '.join(titles)}",
        "runs": runs,
        "rows": [
            side.row | {"name": side.name, "colour": charts.css(side.colour), "run": side.run}
            for side in sides
        ],
        "columns": {
            name: any(row[name] is not None for row in rows)
            for name in ("published", "latency_ms", "memory_mb")
        },
        "groups": [group for group in groups if len(group.rows) > 1],
        "differences": paired_differences(groups),
        "protocols": sorted({run.protocol for run in runs}),
        "data_sets": list(dict.fromkeys(row["data"] for row in rows)),
        "answer": answer(sides),
        "reasons": [
            (side.name, side.examination) for side in sides if isinstance(side.examination, str)
        ],
        "tradeoff": _tradeoff(sides),
        "courses": _courses(sides),
        "accuracy": _accuracy(sides),
        "losses": _losses(sides),
        "methods": _layers(sides),
        "differing": _differences(runs),
        "keyed": [(side.name, charts.css(side.colour)) for side in sides],
    }


def answer(sides: Sequence[Side]) -> str:
    """Who needs the fewest spikes among those about as accurate as the best on the same data."""
    sentences = []
    for data in dict.fromkeys(side.row["data"] for side in sides):
        compared = [
            side
            for side in sides
            if side.row["data"] == data
            and side.row["accuracy"] is not None
            and side.row["spikes_per_sample"]
        ]
        if len(compared) < 2:
            continue
        best = max(side.row["accuracy"] for side in compared)
        near = [side for side in compared if side.row["accuracy"] >= best - 0.01]
        least = min(near, key=lambda side: side.row["spikes_per_sample"])
        sentences.append(
            f"On {data} the fewest spikes within one point of the best accuracy "
            f"({100 * best:.2f} %) are those of {least.name}: "
            f"{least.row['spikes_per_sample']:,.0f} a sample at "
            f"{100 * least.row['accuracy']:.2f} %."
        )
    return " ".join(sentences)


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


def _lines(sides: Sequence[Side], value: Callable[[EpochRecord], float | None]) -> list[Line]:
    """`value` of every run over its epochs."""
    lines = [
        Line.of(side.name, ((e.epoch, value(e)) for e in side.run.epochs), side.colour)
        for side in sides
    ]
    return [line for line in lines if line.x]


def _accuracy(sides: Sequence[Side]) -> charts.Chart | None:
    lines = _lines(sides, lambda epoch: epoch.test.accuracy if epoch.test else None)
    if not lines:
        return None
    what, floor = "test accuracy of every run over epochs", accuracy_floor(lines)
    return charts.curves(what, lines, floor=floor, y="test accuracy", percent=True)


def _losses(sides: Sequence[Side]) -> Iterator[tuple[str, charts.Chart]]:
    """Training losses, those of different kinds apart: their numbers do not compare."""
    kinds: dict[str, list[Side]] = {}
    for side in sides:
        loss = side.run.setting("network.loss") or side.run.setting("network.readout")
        kind = str(side.run.setting("method", "?")) + (f", {loss}" if loss else "")
        kinds.setdefault(kind, []).append(side)
    for kind, members in kinds.items():
        if lines := _lines(members, lambda epoch: epoch.train_loss):
            what = "training loss of every run over epochs"
            yield kind, charts.curves(what, lines, charts.PANEL, y="training loss", log=True)


def _courses(sides: Sequence[Side]) -> charts.Chart | None:
    lines = [
        Line.of(side.name, enumerate(side.examination.latency, 1), side.colour)
        for side in sides
        if isinstance(side.examination, Examination) and len(side.examination.latency) > 1
    ]
    if not lines:
        return None
    return charts.curves(
        "accuracy of every run after each time step",
        lines,
        floor=accuracy_floor(lines),
        x="time steps seen",
        y="test accuracy",
        percent=True,
    )


def _tradeoff(sides: Sequence[Side]) -> charts.Chart | None:
    shown = [
        (side.name, row["energy_nj"], row["accuracy"], row["ms_per_step"], side.colour)
        for side in sides
        if (row := side.row)["energy_nj"] and row["accuracy"] is not None
    ]
    return charts.tradeoff(shown) if len(shown) > 1 else None


def _layers(sides: Sequence[Side]) -> list[dict[str, Any]]:
    """By method: small charts of the rates of its runs, on one axis for all, and of constants."""
    top = max((rate for side in sides for rate in side.run.firing_rates.values()), default=0.0)
    folds: dict[str, dict[str, Any]] = {}
    for side in sides:
        run, name = side.run, side.name
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
        values = [str(recipe.get(key, NOTHING)) for recipe in flat]
        if len(set(values)) == 1 or key in APART or key.startswith("published."):
            continue
        everywhere = all(key in recipe for recipe in flat)
        differing["shared" if everywhere else "others"].append((key, values))
    return differing
