"""`spikeloom resume`: continue a run that was stopped."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from spikeloom.cli.report import write_report


def resume(
    folder: Annotated[Path, typer.Argument(help="Run folder that `spikeloom train` made.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Other epochs, and what changes no figure of the past: epochs=40 workers=2.",
        ),
    ] = None,
    schedule: Annotated[
        Literal["keep", "stretch", "restart"],
        typer.Option(
            help="With other epochs: keep the learning rates, stretch them over all epochs, or "
            "begin them anew here."
        ),
    ] = "keep",
    with_report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write its report.html at the end.")
    ] = True,
    root: Annotated[Path | None, typer.Option(help="Where the data are on this machine.")] = None,
) -> None:
    """Continue a run that was stopped, exactly where its last checkpoint left it."""
    from spikeloom import training

    with training.processes():
        main = training.is_main()
        training.resume(folder, root=root, overrides=overrides or (), schedule=schedule)
    if main and with_report:
        write_report(folder)
