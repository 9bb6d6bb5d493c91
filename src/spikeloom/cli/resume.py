"""`spikeloom resume`: continue a run that was stopped."""

from pathlib import Path
from typing import Annotated

import typer

from spikeloom.cli.report import write_report


def resume(
    folder: Annotated[Path, typer.Argument(help="Run folder that `spikeloom train` made.")],
    root: Annotated[Path | None, typer.Option(help="Where the data are on this machine.")] = None,
) -> None:
    """Continue a run that was stopped, exactly where its last checkpoint left it."""
    from spikeloom import training

    with training.processes():
        main = training.is_main()
        training.resume(folder, root=root)
    if main:
        write_report(folder)
