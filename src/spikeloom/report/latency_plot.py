"""Accuracy over the number of time steps, as a picture of its own."""

from collections.abc import Mapping
from pathlib import Path

from spikeloom.errors import ConfigError

FORMATS = (".svg", ".png", ".pdf")


def plot_latency(
    path: Path, accuracies: Mapping[int, float], *, title: str, trained_at: int | None = None
) -> None:
    """Draw `accuracies` (fractions, by the number of time steps) into the file `path`.

    `trained_at`: the number of time steps of the training, marked if it is among those shown.
    Raises `ConfigError` for another ending than those of `FORMATS`, or with nothing to draw.
    """
    check(path)
    if not accuracies:
        raise ConfigError("nothing to plot: this network has no votes per time step")
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter, ScalarFormatter

    steps = sorted(accuracies)
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    plot = figure.add_subplot()
    plot.plot(steps, [accuracies[t] for t in steps], marker="o", color="#2a6fb0", linewidth=1.6)
    if trained_at is not None and trained_at in accuracies:
        plot.axvline(trained_at, color="#888888", linewidth=0.8, linestyle="--")
        plot.annotate(
            f" trained with T = {trained_at}",
            (trained_at, 0),
            xycoords=("data", "axes fraction"),
            va="bottom",
            fontsize="small",
            color="#555555",
        )
    if steps[-1] > 8 * steps[0]:
        plot.set_xscale("log")
        plot.xaxis.set_minor_locator(NullLocator())
    if len(steps) <= 12:
        plot.xaxis.set_major_locator(FixedLocator(steps))
    plot.xaxis.set_major_formatter(ScalarFormatter())
    plot.yaxis.set_major_formatter(PercentFormatter(1))
    plot.grid(axis="y", color="#dddddd", linewidth=0.8)
    plot.set_axisbelow(True)
    plot.spines[["top", "right"]].set_visible(False)
    plot.set(title=title, xlabel="time steps", ylabel="test accuracy")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def check(path: Path) -> None:
    """Refuse a file name whose ending says no format, before anything is measured."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--plot {path}: give a file that ends in {', '.join(FORMATS)}")
