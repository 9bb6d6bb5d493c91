"""`spikeloom report`: run folders to one HTML file."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Run folders; several are shown side by side.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="HTML file; default: report.html in the run folder, for several runs here.",
        ),
    ] = None,
) -> None:
    """Write one self-contained HTML report about one run or several."""
    from spikeloom.report import write

    typer.echo(write(folders, output))


def write_report(folder: Path) -> None:
    """The report of a run that has just ended, and where it is."""
    from spikeloom.report import write

    typer.echo(f"report {write([folder])}")
