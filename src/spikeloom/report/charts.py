"""The charts of a page: figures of `spikeloom.plot` in the sizes of the page, as inline SVG."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from spikeloom import plot
from spikeloom.plot.lines import Line, accuracy_floor
from spikeloom.plot.style import BLUE, MUTED, ORANGE, palette
from spikeloom.plot.svg import THEME
from spikeloom.run.reading import EpochRecord, RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

    from spikeloom.analysis.decisions import Decisions
    from spikeloom.analysis.distributions import Spread
    from spikeloom.analysis.traces import LayerTrace
    from spikeloom.nn.classifier import Figure as MethodFigure
    from spikeloom.report.examination import Examination, OutputSpikes

# Width and height in units of 100 CSS pixels: about what each has on a wide page, so that text
# keeps its size there, and is still read on a phone.
HALF, THIRD, SLIM, PANEL, WIDE = (4.6, 2.6), (3.7, 2.6), (2.6, 2.6), (2.6, 1.9), (8.6, 2.7)
SPLITS = (("training", MUTED), ("validation", ORANGE), ("test", BLUE))


@dataclass(frozen=True)
class Chart:
    """An SVG element, its curves' names with their CSS colours, and whether its axis leaves out
    what lies below."""

    svg: Markup
    legend: tuple[tuple[str, str], ...] = ()
    cut: bool = False


def css(colour: str) -> str:
    """The CSS of a colour of the figures' style."""
    return f"var({THEME[colour]})" if colour in THEME else colour


def chart(
    describe: str,
    draw: "Callable[[Axes], object]",
    size: tuple[float, float] = HALF,
    cut: bool = False,
) -> Chart:
    from matplotlib.figure import Figure

    ax = Figure(figsize=size, dpi=100, layout="constrained").add_subplot()
    draw(ax)
    named = [
        (str(line.get_label()), css(str(line.get_color())))
        for line in ax.get_lines()
        if not str(line.get_label()).startswith("_")
    ]
    return Chart(Markup(plot.svg(ax, describe)), tuple(named), cut)


def epoch_lines(run: RunRecord, what: str) -> list[Line]:
    """Loss or accuracy of each split over the epochs."""

    def value(epoch: EpochRecord, split: str) -> float | None:
        if split == "training":
            return epoch.train_loss if what == "loss" else epoch.train_accuracy
        score = epoch.val if split == "validation" else epoch.test
        return None if score is None else getattr(score, what)

    lines = []
    for split, colour in SPLITS:
        known = [(float(e.epoch), y) for e in run.epochs if (y := value(e, split)) is not None]
        if known:
            lines.append(Line(split, [x for x, _ in known], [y for _, y in known], colour))
    return lines


def accuracy(run: RunRecord) -> Chart:
    lines, best = epoch_lines(run, "accuracy"), run.best
    published, shares = run.published, run.figure == "accuracy"
    floor = accuracy_floor(lines) if shares else None
    return chart(
        f"{run.figure} over epochs",
        lambda ax: plot.curves(
            lines,
            y=run.figure,
            percent=shares,
            reference=None if published is None else (published / 100, f"published {published:g}"),
            mark=None if best is None else (best.epoch, best.test_accuracy),
            floor=floor,
            ax=ax,
        ),
        THIRD,
        floor is not None,
    )


def loss(run: RunRecord) -> Chart:
    lines = epoch_lines(run, "loss")
    return chart(
        "loss over epochs", lambda ax: plot.curves(lines, y="loss", log=True, ax=ax), THIRD
    )


def learning_rate(run: RunRecord) -> Chart:
    line = Line("learning rate", *_columns([(float(e.epoch), e.lr) for e in run.epochs]), BLUE)
    draw = lambda ax: plot.curves([line], y="learning rate", floor=0.0, ax=ax)  # noqa: E731
    return chart("learning rate over epochs", draw, SLIM)


def first_epoch(run: RunRecord, name: str) -> Chart:
    points = [(float(step.step), getattr(step, name)) for step in run.steps]
    line, percent = Line(name, *_columns(points), MUTED), name == "accuracy"
    return chart(
        f"{name} over optimizer steps",
        lambda ax: plot.curves([line], y=name, x="optimizer step", percent=percent, ax=ax),
    )


def constant(run: RunRecord, name: str, size: tuple[float, float] = HALF) -> Chart:
    what = f"{name} of every layer of {run.name} over epochs"
    return chart(what, lambda ax: plot.constants(run, name, ax=ax), size)


def rates(run: RunRecord, size: tuple[float, float] = HALF, top: float | None = None) -> Chart:
    """`top`: where the axis ends, for charts that are compared."""
    what = f"firing rate of every layer of {run.name} over epochs"
    return chart(what, lambda ax: plot.rates(run, ax=ax).set_ylim(top=top), size)


def scalars(run: RunRecord, names: Sequence[str]) -> Chart:
    lines = []
    for name, colour in zip(names, palette(len(names)), strict=True):
        known = [(float(e.epoch), e.scalars[name]) for e in run.epochs if name in e.scalars]
        lines.append(Line(name, *_columns(known), colour))
    what = f"{', '.join(names)} over epochs"
    return chart(what, lambda ax: plot.curves(lines, y="value", log=True, ax=ax))


def histograms(name: str, spreads: "Sequence[Spread]") -> Chart:
    return chart(
        f"distribution of {name} in {len(spreads)} layers, before and after training",
        lambda ax: plot.histograms(name, spreads, ax=ax),
        (HALF[0], 0.8 + 0.16 * len(spreads)),
    )


def raster(trace: "LayerTrace", most: int, colour: str) -> Chart:
    what = f"spike raster of {trace.layer}"
    return chart(what, lambda ax: plot.raster(trace, most=most, colour=colour, ax=ax), PANEL)


def membrane(trace: "LayerTrace") -> Chart:
    what = f"membrane potential in {trace.layer}"
    return chart(what, lambda ax: plot.membrane(trace, ax=ax), PANEL)


def output_raster(
    samples: "Sequence[OutputSpikes]", classes: Sequence[str], overlaid: bool = False
) -> Chart:
    shown = [(sample.spikes, sample.label) for sample in samples]
    what = "output spikes of one sample of each class" if overlaid else "output spikes of a sample"
    size = WIDE if overlaid else (HALF[0], 2.2)
    return chart(what, lambda ax: plot.output_raster(shown, classes, ax=ax), size)


def decision_course(figures: "Decisions") -> Chart:
    steps = [float(step) for step in range(1, len(figures.rate_course) + 1)]
    lines = [
        Line("first spike", steps, figures.first_spike_course, BLUE),
        Line("rate", steps, figures.rate_course, ORANGE),
    ]
    return chart(
        "accuracy over time steps, by first spike and by rate",
        lambda ax: plot.curves(
            lines,
            x="time steps",
            y="accuracy if stopped there",
            percent=True,
            ends=lambda value: f"{100 * value:.1f} %",
            ax=ax,
        ),
    )


def confusion(matrix: "Sequence[Sequence[int]] | Tensor", names: Sequence[str]) -> Chart:
    draw = lambda ax: plot.confusion(matrix, names, ax=ax)  # noqa: E731
    return chart("confusion matrix", draw, (5.0, 5.0))


def latency(examination: "Examination") -> Chart:
    origin = examination.origin
    level = None
    if origin is not None and origin.source_accuracy is not None:
        level = (origin.source_accuracy, f"started from {100 * origin.source_accuracy:.1f} %")
    return chart(
        "accuracy after each time step",
        lambda ax: plot.latency(
            examination.latency,
            before=() if origin is None else origin.latency,
            reference=level,
            ax=ax,
        ),
    )


def method_figure(figure: "MethodFigure") -> Chart:
    lines = [
        Line(name, [float(figure.start + i) for i in range(len(values))], values, colour)
        for (name, values), colour in zip(
            figure.curves.items(), palette(len(figure.curves)), strict=True
        )
    ]
    return chart(
        figure.title, lambda ax: plot.curves(lines, x=figure.x, y=figure.y, log=figure.log, ax=ax)
    )


def overlay(
    lines: Sequence[Line],
    what: str,
    *,
    percent: bool = False,
    log: bool = False,
    size: tuple[float, float] = HALF,
) -> Chart:
    """A curve for each run, as in a comparison."""
    floor = accuracy_floor(lines) if percent else None
    return chart(
        f"{what} of every run over epochs",
        lambda ax: plot.curves(lines, y=what, percent=percent, log=log, floor=floor, ax=ax),
        size,
        cut=floor is not None,
    )


def by_latency(courses: "Mapping[str, tuple[Sequence[float], str]]") -> Chart:
    """Accuracy over time steps of several runs: `courses[name]` with its colour."""
    lines = [
        Line(name, [float(t) for t in range(1, len(course) + 1)], course, colour)
        for name, (course, colour) in courses.items()
    ]
    return chart(
        "accuracy of every run after each time step",
        lambda ax: plot.curves(
            lines,
            x="time steps seen",
            y="test accuracy",
            percent=True,
            floor=accuracy_floor(lines),
            ax=ax,
        ),
    )


def tradeoff(points: "Sequence[tuple[str, float, float, float | None, str]]") -> Chart:
    """Accuracy against energy in nJ: name, energy, accuracy, time of a step, colour of each."""
    return chart("accuracy against energy", lambda ax: plot.tradeoff(points, ax=ax))


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
