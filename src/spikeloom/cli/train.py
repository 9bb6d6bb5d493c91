"""`spikeloom train`: train a recipe into a new run folder."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikeloom.cli import options
from spikeloom.cli.report import write_report
from spikeloom.errors import RunError
from spikeloom.units import duration, size

if TYPE_CHECKING:
    from spikeloom.training import Estimate


def train(
    recipe: options.Recipe,
    overrides: options.Overrides = None,
    out: options.Out = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run in runs/<recipe>/ instead of a number.")
    ] = None,
    with_report: options.Report = True,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Make no run folder: estimate memory, time, and disk space from a few real steps.",
        ),
    ] = False,
) -> None:
    """Train a recipe into a new run folder, and write its report.

    Under `torchrun` the processes train together; what torchrun starts again goes on in its folder.
    """
    from spikeloom.methods.catalog import load_recipe

    resolved = load_recipe(recipe, overrides or ())
    if out is not None and name is not None:
        raise RunError(f"--out {out} and --name {name} both name the run folder: give one of them")
    from spikeloom import training
    from spikeloom.run.folder import new_folder, runs_of

    parent = runs_of(resolved.origin)
    if out is None and name is not None:
        out = _named(parent, name)

    if dry_run:
        _print(training.dry_run(resolved), out or parent)
        return

    with training.processes():
        main = training.is_main()
        before = training.restarted_folder(out, parent)
        if before is not None:
            folder = before
            if main:
                typer.echo(f"run folder {folder}, which this launch began before it was restarted")
            training.resume(folder)
        else:
            with new_folder(out, parent) as folder:
                training.train(resolved, folder)
    if main and with_report:
        write_report(folder)


def _named(parent: Path, name: str) -> Path:
    if Path(name).name != name or name in ("", ".", ".."):
        raise RunError(f"--name {name}: expected one folder name; --out takes a whole path")
    return parent / name


def _print(estimate: "Estimate", place: Path) -> None:
    """The estimate in words; `place` is where the run folder would be."""
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    lines = {
        "parameters": f"{estimate.parameters:,}",
        "device": estimate.device,
        "peak memory": f"{size(estimate.peak_memory)} of {size(estimate.memory)}",
        "time per epoch": f"{duration(estimate.epoch_seconds)}: {estimate.steps_per_epoch} steps "
        f"of {1000 * estimate.step_seconds:.3g} ms, evaluation "
        f"{duration(estimate.evaluation_seconds)}",
        "time in all": f"{duration(estimate.seconds)} for {estimate.epochs} epochs",
        "checkpoint": size(estimate.checkpoint),
        "disk space": f"{size(estimate.disk)} at most, {size(free)} free in {place.resolve()}",
    }
    for name, value in lines.items():
        typer.echo(f"{name:<17}{value}")
