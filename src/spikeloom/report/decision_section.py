"""The output layer at work: rasters of its spikes, decisions by first spike and by rate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spikeloom.report.figures import HALF, WIDE, Line, curves
from spikeloom.report.html import NOTHING, Markup, card, figure, grid, percent, section, table
from spikeloom.report.svg import INK, MUTED, axes, caption, paint, palette, render, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

    from spikeloom.analysis.decisions import Decisions

FIRST, RATE = "var(--c1)", "var(--c8)"
SHOWN = 8
"""Samples whose output spikes are drawn one by one."""
MOST_NAMES = 20


@dataclass(frozen=True)
class OutputSpikes:
    """What the output neurons did with one sample: `spikes` `[T, classes]`, on the CPU."""

    spikes: "Tensor"
    label: int


@dataclass(frozen=True)
class DecisionExamination:
    """Figures over the samples seen, a few of these, and the first of each class."""

    figures: "Decisions"
    samples: tuple[OutputSpikes, ...]
    by_class: tuple[OutputSpikes, ...]


def decisions(found: DecisionExamination | None, classes: Sequence[str]) -> Markup:
    """Accuracy over time, figures by kind of decision, and rasters; empty without output spikes."""
    if found is None:
        return Markup()
    figures = found.figures
    steps = [float(step) for step in range(1, len(figures.rate_course) + 1)]
    lines = [
        Line("first spike", steps, figures.first_spike_course, FIRST),
        Line("rate", steps, figures.rate_course, RATE),
    ]
    course = card(
        figure(
            curves(
                lines,
                describe="accuracy over time steps, by first spike and by rate",
                x="time steps",
                y="accuracy if stopped there",
                percent=True,
                ends=lambda value: percent(value, 1),
            ),
            legend=[(line.label, line.colour) for line in lines],
        ),
        title="Decisions over time",
        note="A sample counts once an output neuron has fired; the first spike cannot be revised.",
    )
    overlay = card(
        figure(
            _overlay(found.by_class, classes),
            legend=[
                (classes[shown.label], colour)
                for shown, colour in zip(found.by_class, palette(len(found.by_class)), strict=True)
            ]
            if len(found.by_class) <= 8
            else (),
        ),
        title="One sample of each class, overlaid",
        note="Output spikes coloured by the class of the sample; a ring marks the first of each.",
        wide=True,
    )
    rasters = [
        card(
            figure(_raster(shown, classes)),
            title=f"{classes[shown.label]} {_verdict(shown, classes)}",
        )
        for shown in found.samples
    ]
    return section(
        "decisions",
        "First spikes",
        grid(course, card(_table(figures), title="By first spike and by rate")),
        grid(overlay),
        grid(*rasters),
        note="Every row of a raster is an output neuron. The ringed spike is the first and "
        "decides; the band is the label.",
    )


def _table(figures: "Decisions") -> Markup:
    from spikeloom.analysis.decisions import time_delay

    def row(kind: str, accuracy: float, course: list[float]) -> list[object]:
        delays = [time_delay(course, part) for part in (50, 90)]
        return [
            kind,
            percent(accuracy),
            *(int(delay) if delay < len(course) else NOTHING for delay in delays),
        ]

    head = ["decision by", "accuracy", "td_50", "td_90"]
    body = [
        row("first-spike", figures.first_spike_accuracy, figures.first_spike_course),
        row("rate", figures.rate_accuracy, figures.rate_course),
    ]
    step = figures.decision_step
    facts = [
        ["silent samples", percent(figures.silent_share)],
        ["right at the first output spike", percent(figures.early_accuracy)],
        ["mean step of the first output spike", f"{step:.1f}" if step == step else NOTHING],
        ["spikes per step of the predicted class", f"{figures.predicted_rates['rate']:.3f}"],
        ["spikes per step of the other classes", f"{figures.other_rates['rate']:.4f}"],
    ]
    columns = range(1, len(head))
    return Markup(table(head, body, numeric=columns) + table(["", ""], facts, numeric=(1,)))


def _raster(shown: OutputSpikes, classes: Sequence[str]) -> str:
    """The output spikes of one sample, the deciding one ringed."""
    figure_, plot = axes(HALF[0], 2.2)
    plot.axhline(shown.label, color=paint(MUTED), linewidth=5, alpha=0.25)
    if not _dots(plot, shown, INK):
        write(plot, 0.5, 0.5, "no output neuron fires", MUTED, align="center")
    _frame(plot, len(shown.spikes), classes)
    return render(figure_, f"output spikes of a sample of class {shown.label}")


def _overlay(samples: Sequence[OutputSpikes], classes: Sequence[str]) -> str:
    """The output spikes of several samples in one raster, each in its colour."""
    figure_, plot = axes(WIDE[0], HALF[1])
    for shown, colour in zip(samples, palette(len(samples)), strict=True):
        _dots(plot, shown, colour)
    _frame(plot, max((len(shown.spikes) for shown in samples), default=1), classes)
    return render(figure_, "output spikes of one sample of each class")


def _dots(plot: "Axes", shown: OutputSpikes, colour: str) -> bool:
    """Draws the spikes, from step 1, and rings the first; False if there are none."""
    times, neurons = (row.tolist() for row in (shown.spikes != 0).nonzero(as_tuple=True))
    if not times:
        return False
    plot.plot([t + 1 for t in times], neurons, "|", color=paint(colour), markersize=5)
    # nonzero goes step by step, neuron by neuron: its first row is the first spike, ties included.
    plot.plot(
        [times[0] + 1],
        [neurons[0]],
        "o",
        markersize=9,
        markerfacecolor="none",
        markeredgecolor=paint(colour if colour != INK else FIRST),
    )
    return True


def _frame(plot: "Axes", steps: int, classes: Sequence[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    plot.grid(visible=False)
    plot.set(xlim=(0, steps + 1), ylim=(-0.7, len(classes) - 0.3))
    plot.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    every = -(-len(classes) // MOST_NAMES)
    plot.set_yticks(range(0, len(classes), every), classes[::every])
    caption(plot, x="time step")


def _verdict(shown: OutputSpikes, classes: Sequence[str]) -> str:
    fired = (shown.spikes != 0).nonzero()
    if not len(fired):
        return "(silent)"
    step, choice = fired[0].tolist()
    if choice == shown.label:
        return f"(right in step {step + 1})"
    return f"(taken for {classes[choice]} in step {step + 1})"
