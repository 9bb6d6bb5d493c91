"""`spikeloom resume`: continue a run that was stopped."""

from typing import Annotated, Literal

import typer

from spikeloom.cli import options
from spikeloom.cli.report import write_report


def resume(
    folder: options.RunFolder,
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
    with_report: options.Report = True,
    root: options.Root = None,
) -> None:
    """Continue a run that was stopped, exactly where its last checkpoint left it."""
    from spikeloom import training

    with training.processes():
        main = training.is_main()
        training.resume(folder, root=root, overrides=overrides or (), schedule=schedule)
    if main and with_report:
        write_report(folder)
