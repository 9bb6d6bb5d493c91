"""The charts of a page: figures of `spikeloom.plot` in the sizes of the page, as inline SVG."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from spikeloom import plot
from spikeloom.plot.lines import Line, accuracy_floor
from spikeloom.plot.style import BLUE, MUTED, ORANGE, palette
from spikeloom.plot.svg import THEME
from spikeloom.run.reading import EpochRecord, RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

    from spikeloom.analysis.constants import Spread
    from spikeloom.analysis.decisions import Decisions
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


def curves(
    describe: str,
    lines: Sequence[Line],
    size: tuple[float, float] = HALF,
    floor: float | None = None,
    **options: Any,
) -> Chart:
    """The chart of `plot.curves` with its `options`."""
    cut = floor is not None and any(y < floor for line in lines for y in line.y)
    return chart(describe, lambda ax: plot.curves(lines, floor=floor, ax=ax, **options), size, cut)


def epoch_lines(run: RunRecord, figure: str) -> list[Line]:
    """Loss or accuracy of each split over the epochs."""

    def value(epoch: EpochRecord, split: str) -> float | None:
        if split == "training":
            return epoch.train_loss if figure == "loss" else epoch.train_accuracy
        score = epoch.val if split == "validation" else epoch.test
        return None if score is None else getattr(score, figure)

    lines = [
        Line.of(split, ((e.epoch, value(e, split)) for e in run.epochs), colour)
        for split, colour in SPLITS
    ]
    return [line for line in lines if line.x]


def accuracy(run: RunRecord) -> Chart:
    lines, best = epoch_lines(run, "accuracy"), run.best
    published, shares = run.published, run.figure == "accuracy"
    return curves(
        f"{run.figure} over epochs",
        lines,
        THIRD,
        accuracy_floor(lines) if shares else None,
        y=run.figure,
        percent=shares,
        reference=None if published is None else (published / 100, f"published {published:g}"),
        mark=None if best is None else (best.epoch, best.test_accuracy),
    )


def loss(run: RunRecord) -> Chart:
    return curves("loss over epochs", epoch_lines(run, "loss"), THIRD, y="loss", log=True)


def learning_rate(run: RunRecord) -> Chart:
    line = Line.of("learning rate", ((e.epoch, e.lr) for e in run.epochs), BLUE)
    return curves("learning rate over epochs", [line], SLIM, 0.0, y="learning rate")


def first_epoch(run: RunRecord, name: str) -> Chart:
    line = Line.of(name, ((step.step, getattr(step, name)) for step in run.steps), MUTED)
    axes: dict[str, Any] = {"x": "optimizer step", "y": name, "percent": name == "accuracy"}
    return curves(f"{name} over optimizer steps", [line], **axes)


def constant(run: RunRecord, name: str, size: tuple[float, float] = HALF) -> Chart:
    what = f"{name} of every layer of {run.name} over epochs"
    return chart(what, lambda ax: plot.constants(run, name, ax=ax), size)


def rates(run: RunRecord, size: tuple[float, float] = HALF, top: float | None = None) -> Chart:
    """`top`: where the axis ends, for charts that are compared."""
    what = f"firing rate of every layer of {run.name} over epochs"
    return chart(what, lambda ax: plot.rates(run, ax=ax).set_ylim(top=top), size)


def scalars(run: RunRecord, names: Sequence[str]) -> Chart:
    lines = [
        Line.of(name, ((e.epoch, e.scalars.get(name)) for e in run.epochs), colour)
        for name, colour in zip(names, palette(len(names)), strict=True)
    ]
    return curves(f"{', '.join(names)} over epochs", lines, y="value", log=True)


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
    return curves(
        "accuracy over time steps, by first spike and by rate",
        [
            Line.of("first spike", enumerate(figures.first_spike_course, 1), BLUE),
            Line.of("rate", enumerate(figures.rate_course, 1), ORANGE),
        ],
        x="time steps",
        y="accuracy if stopped there",
        percent=True,
        ends=lambda value: f"{100 * value:.1f} %",
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
        Line.of(name, enumerate(values, figure.start), colour)
        for (name, values), colour in zip(
            figure.curves.items(), palette(len(figure.curves)), strict=True
        )
    ]
    return curves(figure.title, lines, x=figure.x, y=figure.y, log=figure.log)


def tradeoff(points: "Sequence[tuple[str, float, float, float | None, str]]") -> Chart:
    """Accuracy against energy in nJ: name, energy, accuracy, time of a step, colour of each."""
    return chart("accuracy against energy", lambda ax: plot.tradeoff(points, ax=ax))
