"""`spikeloom speedrun`: the table of records, and entries of one's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikeloom.cli import options
from spikeloom.cli.output import print_json, print_table
from spikeloom.units import duration

if TYPE_CHECKING:
    from spikeloom.speedrun import SpeedrunEntry


def speedrun(
    entry: Annotated[
        str | None,
        typer.Argument(
            metavar="[METHOD|RUN]",
            help="Train METHOD/cifar10-compact, or take a finished run's folder.",
            autocompletion=options.complete_method,
        ),
    ] = None,
    overrides: options.Overrides = None,
    out: options.Out = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: the records with their logs.")
    ] = False,
) -> None:
    """Show how well, and how fast, a small spiking network learns CIFAR-10 on a CPU.

    Alone: the committed records. With a method: trains its entry, and prints its line. The rules
    are in docs/speedrun.md.
    """
    from spikeloom.speedrun import FOLDER, RECIPE, entries, entry_of

    if entry is not None:
        run = Path(entry) if Path(entry).is_dir() else _trained(entry, overrides, out)
        record = entry_of(run)
        print_json(record.model_dump()) if as_json else _print([record])
        return
    records = entries()
    if as_json:
        print_json([record.model_dump() for record in records])
        return
    _print(records)
    typer.echo(f"records: {len(records)}, in {FOLDER}; their logs: --json. To add one:")
    typer.echo(f"spikeloom speedrun METHOD, which trains METHOD/{RECIPE}; rules: docs/speedrun.md")


def _trained(entry: str, overrides: list[str] | None, out: Path | None) -> Path:
    from spikeloom import training
    from spikeloom.methods.catalog import load_recipe
    from spikeloom.run.folder import new_folder, runs_of
    from spikeloom.speedrun import RECIPE

    name = entry if "/" in entry else f"{entry}/{RECIPE}"
    recipe = load_recipe(name, overrides or ())
    with training.processes(), new_folder(out, runs_of(recipe.origin)) as folder:
        training.train(recipe, folder)
    return folder


def _print(records: "Sequence[SpeedrunEntry]") -> None:
    columns = ("method", "accuracy", "mirrored", "wall", "CPU", "epochs", "T", "parameters")
    columns = (*columns, "spikes", "machine", "command")
    print_table(
        columns,
        [
            (
                record.method,
                f"{record.accuracy:.2%}",
                f"{record.mirrored:.2%}",
                duration(record.seconds),
                "" if record.cpu_seconds is None else duration(record.cpu_seconds),
                str(record.epochs),
                str(record.time_steps or ""),
                f"{record.parameters:,}",
                f"{record.spikes:,.0f}",
                f"{record.machine}, {record.threads} thread{'s' * (record.threads > 1)}",
                record.command,
            )
            for record in records
        ],
    )
