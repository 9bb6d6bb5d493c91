"""`spikeloom train`: train a recipe into a new run folder."""

from pathlib import Path
from typing import Annotated

import typer

from spikeloom.cli.estimate import print_estimate
from spikeloom.cli.output import complete_recipe
from spikeloom.cli.report import write_report
from spikeloom.errors import RunError


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="Name from `spikeloom recipes`, or path of a .toml file.",
            autocompletion=complete_recipe,
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Fields to change, for example T=4 epochs=10 protocol=B."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder; default: runs/<recipe>/<next free number>."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run in runs/<recipe>/ instead of a number.")
    ] = None,
    with_report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write its report.html at the end.")
    ] = True,
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
    from spikeloom.run.new_folder import new_folder, runs_of

    parent = runs_of(resolved.origin)
    if out is None and name is not None:
        out = _named(parent, name)

    if dry_run:
        print_estimate(training.dry_run(resolved), out or parent)
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
                if main:
                    typer.echo(f"run folder {folder}")
                training.train(resolved, folder)
    if main and with_report:
        write_report(folder)


def _named(parent: Path, name: str) -> Path:
    if Path(name).name != name or name in ("", ".", ".."):
        raise RunError(f"--name {name}: expected one folder name; --out takes a whole path")
    return parent / name
