"""What verbs share: tables and JSON."""

import json
import os
import shutil
import sys
from collections.abc import Sequence

import typer

# A table in a pipe has no terminal whose width it must keep; COLUMNS says one all the same.
_PIPED_WIDTH = 200
_NUMERIC = "0123456789.+-\N{EN DASH}"  # what a number begins with, or what stands for none


def width() -> int:
    """Columns that are there to write in."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return int(columns)
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPED_WIDTH


def print_json(value: object) -> None:
    """`value` on stdout as indented JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str | None = None,
) -> None:
    """A table on stdout; columns of numbers are aligned to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Text: a title such as [data] would be read as markup.
    table = Table(
        title=None if title is None else Text(title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    longest = max((len(row[0]) for row in rows), default=0)
    for at, column in enumerate(columns):
        cells = [row[at] for row in rows]
        numbers = any(cells) and all(cell[:1] in _NUMERIC for cell in cells)
        # the first names the row, and is there to be copied: not broken where there is room
        whole = column == columns[0] and longest <= width() // 2
        justify = "right" if numbers else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(width=width())
    console.print(table)
    console.print()
