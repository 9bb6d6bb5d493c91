"""Figures of what was measured: rates and constants of layers, confusion, latency, energy."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from spikeloom.errors import ConfigError
from spikeloom.plot.lines import Line, accuracy_floor, curves
from spikeloom.plot.style import (
    BLUE,
    GRID,
    INK,
    MUTED,
    ORANGE,
    RED,
    axes,
    caption,
    figure_of,
    palette,
)
from spikeloom.plot.words import constant_words
from spikeloom.run.reading import EpochRecord, RunRecord, read

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

    from spikeloom.analysis.operations import Operations

Source = RunRecord | Path | str
_MOST_BANDS = 8
_MOST_ENDS = 8
_MOST_CELLS = 20


def rates(source: "Source | Mapping[str, float]", *, ax: "Axes | None" = None) -> "Axes":
    """Firing rates, in spikes per neuron and time step: of a run's layers over its epochs, or of
    the layers of a mapping (`FiringRates.per_layer()`) as bars.
    """
    if isinstance(source, Mapping):
        ax = _bars(list(source), list(source.values()), [BLUE] * len(source), ax)
        caption(ax, x="spikes per neuron and time step")
        return ax
    run = _run(source)
    layers = layer_names(run.epochs)
    scores = [(e.epoch, e.test.firing_rates) for e in run.epochs if e.test is not None]
    lines = [
        Line.of(layer, ((x, values.get(layer)) for x, values in scores), hue)
        for layer, hue in zip(layers, palette(len(layers)), strict=True)
    ]
    lines = [line for line in lines if line.x]
    _some(lines, f"{run.name} has recorded no firing rates")
    ends = (lambda value: f"{value:.3f}") if len(lines) <= _MOST_ENDS else None
    return curves(lines, y="spikes per neuron and time step", ends=ends, floor=0.0, ax=ax)


def constants(source: Source, name: str | None = None, *, ax: "Axes | None" = None) -> "Axes":
    """A constant of all layers over the epochs of a run: means, in bands from the minimum to the
    maximum of a layer where there are few of them.

    `name`: as `Neuron.constants()` has it ("tau"); the first if left out.
    """
    run = _run(source)
    names = constant_names(run.epochs)
    _some(names, f"{run.name} has recorded no constants of neurons")
    if name is None:
        name = names[0]
    elif name not in names:
        raise ConfigError(f"{run.name} has no constant {name!r}; it has {', '.join(names)}")
    layers = layer_names(run.epochs)
    lines = []
    for layer, hue in zip(layers, palette(len(layers)), strict=True):
        key = f"{layer}/{name}"
        points = [(e.epoch, e.constants[key]) for e in run.epochs if key in e.constants]
        line = Line.of(layer, ((epoch, spread.mean) for epoch, spread in points), hue)
        if len(layers) <= _MOST_BANDS:
            low, high = ([getattr(spread, end) for _, spread in points] for end in ("min", "max"))
            line = replace(line, low=low, high=high)
        if points:
            lines.append(line)
    ends = (lambda value: f"{value:.3g}") if len(lines) <= _MOST_ENDS else None
    return curves(lines, y=f"{name}, {constant_words(name).unit}", log=True, ends=ends, ax=ax)


def confusion(
    matrix: "Sequence[Sequence[int]] | Tensor",
    classes: Sequence[str] = (),
    *,
    ax: "Axes | None" = None,
) -> "Axes":
    """Counts of test samples, label (rows) against prediction: right ones blue, mistakes red, the
    darker the larger their share of the class.
    """
    import numpy as np
    from matplotlib.colors import to_rgb

    counts = np.asarray(matrix, dtype=float)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"a confusion matrix is square, and this one has shape {counts.shape}")
    size = len(counts)
    names = list(classes) or [str(index) for index in range(size)]
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = np.empty((size, size, 4))
    image[..., :3] = to_rgb(RED)
    image[range(size), range(size), :3] = to_rgb(BLUE)
    image[..., 3] = np.sqrt(share)  # square roots make single mistakes visible
    ax = axes(ax, (4.2, 4.2))
    ax.imshow(image, interpolation="nearest")
    ax.grid(visible=False)
    if size <= _MOST_CELLS:
        for row, column in zip(*counts.nonzero(), strict=True):
            dark = image[row, column, 3] > 0.6
            ax.text(
                column,
                row,
                f"{counts[row, column]:g}",
                ha="center",
                va="center",
                fontsize=7,
                color="#ffffff" if dark else INK,
            )
    every = -(-size // _MOST_CELLS)
    turned = 90 if max(map(len, names)) > 3 else 0
    ax.set_xticks(range(0, size, every), names[::every], rotation=turned)
    ax.set_yticks(range(0, size, every), names[::every])
    caption(ax, x="prediction", y="label")
    return ax


def latency(
    accuracies: Sequence[float] | Mapping[int, float],
    *,
    before: Sequence[float] = (),
    reference: tuple[float, str] | None = None,
    trained_at: int | None = None,
    title: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Accuracy (fractions) if the network were stopped early, over the number of time steps.

    `accuracies`: after 1..T steps (`LatencyCourse.accuracy()`), or by their number. `before`: the
    same before training. `reference`: another accuracy with its name. `trained_at`: the T of the
    training, marked if it is among those shown. `title` stands above.
    """
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    shown = dict(accuracies) if isinstance(accuracies, Mapping) else dict(enumerate(accuracies, 1))
    _some(shown, "nothing to plot: this network has no votes per time step")
    steps = sorted(shown)
    lines = [Line.of("trained", sorted(shown.items()), BLUE)]
    if len(before) == len(steps):
        lines.append(Line.of("before training", zip(steps, before, strict=True), ORANGE))
    ax = curves(
        lines,
        x="time steps seen",
        y="test accuracy",
        percent=True,
        reference=reference,
        ends=lambda value: f"{value:.1%}".replace("%", " %"),
        floor=accuracy_floor(lines),
        ax=ax,
    )
    if trained_at in shown:
        ax.axvline(trained_at, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
        words = f" trained with T = {trained_at}"
        ax.annotate(words, (trained_at, 0), xycoords=("data", "axes fraction"), color=MUTED)
    if steps[-1] > 8 * steps[0] and steps != list(range(1, len(steps) + 1)):
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
    if len(steps) <= 8:
        ax.xaxis.set_major_locator(FixedLocator(steps))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    if title:
        figure_of(ax).suptitle(title, fontsize="medium")
    return ax


def energy(operations: "Operations", *, ax: "Axes | None" = None) -> "Axes":
    """The estimated energy of each layer per sample, in nanojoule: layers that only add, one
    addition for each spike and synapse, in blue; those that multiply in orange.
    """
    layers = operations.layers
    colours = [ORANGE if layer.multiplies else BLUE for layer in layers]
    names = [layer.layer for layer in layers]
    ax = _bars(names, [layer.picojoule / 1000 for layer in layers], colours, ax)
    caption(ax, x="nJ per sample")
    return ax


def tradeoff(
    points: Sequence[tuple[str, float, float, float | None, str]], *, ax: "Axes | None" = None
) -> "Axes":
    """Accuracy against energy, a dot for each network, the larger the longer its training step.

    `points`: name, energy in nJ per sample, accuracy (fraction), milliseconds of a step or None,
    and colour of each.
    """
    from matplotlib.ticker import FuncFormatter, NullFormatter

    ax = axes(ax)
    longest = max((time or 0.0 for *_, time, _ in points), default=0.0)
    for name, energy, accuracy, time, colour in points:
        size = 30 + 170 * (time / longest if time and longest else 0.0)
        ax.scatter(energy, accuracy, s=size, color=colour, alpha=0.75, linewidth=0)
        ax.plot([], [], "o", color=colour, label=name)
        ax.annotate(
            name,
            (energy, accuracy),
            xytext=(0, 9),
            textcoords="offset points",
            ha="center",
            fontsize=7.2,
            color=INK,
        )
    energies = [energy for _, energy, *_ in points]
    if max(energies) > 8 * min(energies):
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.margins(x=0.2, y=0.25)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{100 * value:g} %" if value <= 1 else "")
    )
    caption(ax, x="energy, nJ per sample", y="test accuracy")
    return ax


def layer_names(epochs: Sequence[EpochRecord]) -> list[str]:
    """Every neuron layer that the records name, in module order."""
    names: dict[str, None] = {}
    for epoch in epochs:
        names |= dict.fromkeys(epoch.test.firing_rates if epoch.test else ())
    for epoch in epochs:
        names |= dict.fromkeys(key.rpartition("/")[0] for key in epoch.constants)
    return list(names)


def constant_names(epochs: Sequence[EpochRecord]) -> list[str]:
    """The constants that some layer has, as "tau"."""
    return list(dict.fromkeys(key.rpartition("/")[2] for e in epochs for key in e.constants))


def _bars(
    names: Sequence[str], values: Sequence[float], colours: Sequence[str], ax: "Axes | None"
) -> "Axes":
    ax = axes(ax, (4.2, 0.7 + 0.22 * len(names)))
    places = range(len(names))
    ax.barh(places, values, color=colours, height=0.7)
    ax.set_yticks(places, names)
    ax.invert_yaxis()
    ax.grid(visible=False)
    ax.grid(axis="x", color=GRID, linewidth=0.8)
    ax.set_xlim(left=0, right=None if any(values) else 1)
    for place, value in zip(places, values, strict=True):
        words = f" {value:.3g}"
        ax.text(value, place, words, va="center", fontsize=7, color=MUTED, clip_on=False)
    return ax


def _run(source: Source) -> RunRecord:
    return source if isinstance(source, RunRecord) else read(Path(source))


def _some(values: object, otherwise: str) -> None:
    if not values:
        raise ConfigError(otherwise)
