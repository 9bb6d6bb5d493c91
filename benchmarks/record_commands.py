"""The commands that keep what finished runs have shown: records, networks of the zoo, the page."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.command import app


@app.command("record")
def record(run: Path, name: str) -> None:
    """Keep what `docs/results.md` shows of a finished run in benchmarks/records/NAME.json."""
    from benchmarks import records

    typer.echo(records.keep(run, name))


@app.command("zoo")
def zoo(run: Path, name: str) -> None:
    """Make a network of the package's zoo out of a run of protocol B."""
    from benchmarks import zoo as made

    card = made.add(run, name)
    typer.echo(f"zoo/{card.name}: {card.accuracy_b:.2%}, {card.sha256}")


@app.command("results")
def results(
    check: Annotated[bool, typer.Option("--check", help="Only say whether it is current.")] = False,
) -> None:
    """Write docs/results.md: the papers' tables, and ours beside them from the records."""
    from benchmarks import results as page

    page.write(check=check)
