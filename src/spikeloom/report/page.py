"""From run folders to one HTML file that needs nothing else.

The words and the order of a page are in `templates/`; here is what they are filled with.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from spikeloom import files
from spikeloom.errors import RunError
from spikeloom.plot.measures import constant_names, layer_names
from spikeloom.plot.neurons import spread
from spikeloom.plot.style import palette
from spikeloom.plot.words import constant_words
from spikeloom.report import charts
from spikeloom.report.comparison import comparison
from spikeloom.report.examination import SAMPLES, Examination, OutputSpikes
from spikeloom.report.pictures import picture
from spikeloom.report.summary import examined, interval
from spikeloom.report.words import NOTHING, count, energy, percent, points, score
from spikeloom.run.reading import RunRecord
from spikeloom.units import duration
from spikeloom.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

CHOICES = {
    "A": "the highest test accuracy of all epochs: it selects on the test set",
    "B": "the test accuracy of the epoch with the best validation accuracy",
}
MOST_NEURONS = 40
MOST_LAYERS = 16
MOST_MISTAKES = 8
MOST_SCORES = 10


def write(
    folders: Sequence[Path | str], output: Path | str | None = None, *, samples: int = SAMPLES
) -> Path:
    """Writes the report of one run, or of several side by side, and returns its path.

    Args:
        folders: Run folders; a run may still be going on, or have been killed.
        output: The file to write; `report.html` in the run folder for one run, in the current
            folder for several. It is replaced in one instant; a pipe or a device is written to.
        samples: How many test samples the trained network sees at most.

    Raises:
        RunError: no folder was given, one is not a run folder, or the file cannot be written.
    """
    return write_examined(*examined(folders, samples), output)


def write_examined(
    runs: Sequence[RunRecord],
    examinations: Sequence[Examination | str],
    output: Path | str | None = None,
) -> Path:
    """`write` for runs whose networks were looked at already."""
    if len(runs) == 1:
        path = Path(output) if output else runs[0].folder / "report.html"
        page = single(runs[0], examinations[0])
    else:
        path = Path(output) if output else Path("report.html")
        page = several(runs, examinations)
    try:
        # one in a stranger's run folder may be a pipe, or a link to a device
        (files.deliver if output else files.write)(path, page)
    except OSError as error:
        raise RunError(
            f"cannot write the report {path}: {error.strerror}; give another output file"
        ) from error
    return path


def single(run: RunRecord, examination: Examination | str) -> str:
    """The page about one run; `examination` is what its network showed, or why it could not."""
    values: dict[str, Any] = {
        "title": run.title,
        "description": _result(run),
        "run": run,
        "reason": examination if isinstance(examination, str) else "",
        "found": None if isinstance(examination, str) else examination,
        "choices": CHOICES,
        "interval": interval(run),
        "tiles": _tiles(run, examination),
        "constants": constant_names(run.epochs),
        "layers": _layers(run),
        "top_rate": max([0.1, *run.firing_rates.values()]),
        "scalars": _scalars(run),
        **_confusion(run, examination),
    }
    values |= {"decisions": None} if isinstance(examination, str) else _examined(examination)
    return _environment().get_template("run.html").render(values)


def several(runs: Sequence[RunRecord], examinations: Sequence[Examination | str]) -> str:
    """The page that compares runs."""
    values = {"description": "; ".join(map(_result, runs))} | comparison(runs, examinations)
    return _environment().get_template("comparison.html").render(values)


def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("spikeloom.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    filters = (percent, count, energy, points, score, toml, verdict)
    environment.filters |= {function.__name__: function for function in filters}
    environment.globals |= {
        "charts": charts,
        "constant_words": constant_words,
        "version": __version__,
    }
    return environment


def toml(text: str) -> Markup:
    """A recipe with its tables, keys and comments marked. Of `data.root` the last folder is left: a
    page travels, and its machine's paths stay there.
    """
    text = str(escape(re.sub(r'(?m)^(root = ").*[/\\](?=[^/\\\n]+"$)', r"\1.../", text)))
    text = re.sub(r"(?m)^[ \t]*\[.*$", r"<b>\g<0></b>", text)
    text = re.sub(r"(?m)^[ \t]*#.*$", r"<em>\g<0></em>", text)
    return Markup(re.sub(r"(?m)^[ \t]*[\w.\-&#;]+(?=[ \t]*=)", r"<span>\g<0></span>", text))


def verdict(sample: OutputSpikes, classes: Sequence[str]) -> str:
    """What the first output spike of a sample says: right, wrong, or nothing."""
    fired = (sample.spikes != 0).nonzero()
    name = classes[sample.label]
    if not len(fired):
        return f"{name} (silent)"
    step, choice = fired[0].tolist()
    if choice == sample.label:
        return f"{name} (right in step {step + 1})"
    return f"{name} (taken for {classes[choice]} in step {step + 1})"


def _result(run: RunRecord) -> str:
    """The run's result in one phrase."""
    if run.best is None:
        return f"{run.name}: no evaluation yet"
    value = score(run.best.test_accuracy, run.figure)
    return f"{run.name}: {run.figure}-{run.protocol} {value}"


def _tiles(run: RunRecord, examination: Examination | str) -> list[tuple[str, object, str]]:
    """Key figures: name, value, and a line of explanation."""
    from spikeloom.evaluation.speed import stored

    done, planned = len(run.epochs), run.planned_epochs
    last = max((epoch.step for epoch in run.epochs), default=0)
    mean = sum(epoch.seconds for epoch in run.epochs) / max(done, 1)
    step = f", {1000 * mean * done / last:.1f} ms a step" if last else ""
    tiles: list[tuple[str, object, str]] = [
        ("parameters", count(run.start.parameters), "trainable values in the network"),
        ("time steps", run.time_steps or NOTHING, "T, simulated per sample"),
        (
            "epochs",
            done if planned in (done, None) else f"{done} of {planned}",
            f"{last:,} optimizer steps",
        ),
        (
            "training time",
            duration(run.seconds),
            f"{duration(mean)} per epoch with its evaluation{step}" if done else "",
        ),
        ("samples", count(run.start.train_samples), f"test: {count(run.test_samples)}"),
    ]
    if (speed := stored(run.folder)) is not None:
        where = f"one sample at a time, {speed.device}, {speed.per_second:,.0f} a second"
        tiles.append(("latency", f"{speed.median_ms:.2f} ms", where))
    if isinstance(examination, Examination):
        tiles.append(
            (
                "spikes per sample",
                count(sum(examination.spikes.values())),
                f"{examination.rate:.4f} per neuron and step, all neurons together",
            )
        )
    return tiles


def _layers(run: RunRecord) -> list[dict[str, Any]]:
    """A row per neuron layer: its colour, its rate, and its constants at the last epoch."""
    names = layer_names(run.epochs)
    if not names:
        return []
    constants, last, rates = constant_names(run.epochs), run.epochs[-1], run.firing_rates
    return [
        {
            "name": name,
            "colour": charts.css(colour),
            "rate": rates.get(name),
            "constants": [last.constants.get(f"{name}/{constant}") for constant in constants],
        }
        for name, colour in zip(names, palette(len(names)), strict=True)
    ]


def _scalars(run: RunRecord) -> dict[str, list[str]]:
    """What a method logs besides, names that end in numbers together."""
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for epoch in run.epochs for name in epoch.scalars):
        groups.setdefault(name.rstrip("0123456789"), []).append(name)
    return groups


def _confusion(run: RunRecord, examination: Examination | str) -> dict[str, Any]:
    matrix: Sequence[Sequence[int]] = run.end.confusion if run.end is not None else ()
    note, classes = "All test samples, at the epoch that is reported.", ()
    if isinstance(examination, Examination):
        classes = examination.classes
        if not matrix:
            matrix = examination.confusion
            note = f"{examination.samples:,} test samples, with the best weights so far."
    size = range(len(matrix))
    names = list(classes) if len(classes) == len(matrix) else [str(i) for i in size]
    wrong = [(i, j, matrix[i][j]) for i in size for j in size if i != j and matrix[i][j]]
    wrong.sort(key=lambda item: -item[2])
    return {
        "matrix": matrix,
        "matrix_note": note,
        "matrix_total": sum(map(sum, matrix)),
        "names": names,
        "upright": any(len(name) > 3 for name in names),
        "errors": sum(number for *_, number in wrong),
        "mistakes": [
            (i, j, number, number / sum(matrix[i])) for i, j, number in wrong[:MOST_MISTAKES]
        ],
    }


def _examined(examination: Examination) -> dict[str, Any]:
    scores = examination.scores
    order = list(range(len(scores)))
    if len(order) > 12:
        order = sorted(order, key=lambda i: -scores[i])[:MOST_SCORES]
    last = examination.latency[-1] if examination.latency else 0.0
    traces = spread(examination.traces, MOST_LAYERS)
    values: dict[str, Any] = {
        "image": picture(examination.image),
        "guess": max(range(len(scores)), key=lambda i: scores[i]),
        "decided": examination.label >= 0 and min(scores) < max(scores),
        "low": min(0.0, *scores),
        "shown_scores": order,
        "most": MOST_NEURONS,
        "traces": [
            (trace, colour, int(trace.spikes.any(0).sum()))
            for trace, colour in zip(traces, palette(len(traces)), strict=True)
        ],
        "decisions": examination.decisions,
        "of_samples": examination.of_samples,
        "early": next((t for t, a in enumerate(examination.latency, 1) if a >= last - 0.005), 0),
        "origin_remark": _origin_remark(examination),
        "top_energy": max((layer.picojoule for layer in examination.operations.layers), default=0)
        or 1,
    }
    if examination.decisions is not None:
        values |= _decisions(examination, examination.decisions.figures)
    return values


def _origin_remark(examination: Examination) -> str:
    origin = examination.origin
    if origin is None:
        return ""
    if origin.missing:
        return f" Before training: not measured ({origin.missing})."
    came = ""
    if origin.source_accuracy is not None:
        came = f", whose network has {percent(origin.source_accuracy)} on these samples"
    before = percent(origin.accuracy)
    return f" Started from {origin.source}{came}; before training {before} after all steps."


def _decisions(examination: Examination, figures: Any) -> dict[str, Any]:
    from spikeloom.analysis.decisions import time_delay

    def row(kind: str, accuracy: float, course: Sequence[float]) -> tuple[object, ...]:
        delays = [time_delay(course, part) for part in (50, 90)]
        steps = [int(delay) + 1 if delay < len(course) else NOTHING for delay in delays]
        return (kind, accuracy, *steps)

    step = figures.decision_step
    by_class = examination.decisions.by_class if examination.decisions else ()
    return {
        "decision_rows": [
            row("first spike", figures.first_spike_accuracy, figures.first_spike_course),
            row("rate", figures.rate_accuracy, figures.rate_course),
        ],
        "decision_facts": [
            ("silent samples", percent(figures.silent_share)),
            ("right at the first output spike", percent(figures.early_accuracy)),
            ("mean step of the first output spike", f"{step:.1f}" if step == step else NOTHING),
            ("spikes per step of the predicted class", f"{figures.predicted_rates['rate']:.3f}"),
            ("spikes per step of the other classes", f"{figures.other_rates['rate']:.4f}"),
        ],
        "class_keys": [
            (examination.classes[sample.label], charts.css(colour))
            for sample, colour in zip(by_class, palette(len(by_class)), strict=True)
        ],
    }
