"""`spikeloom data`: which data sets there are, whether their files are good, preparation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikeloom.cli.output import print_json, print_table
from spikeloom.errors import DataError

if TYPE_CHECKING:
    from spikeloom.data import Source

app = typer.Typer(help="List, check, and prepare data sets.", no_args_is_help=True)


def _complete(incomplete: str) -> list[str]:
    from spikeloom.data import names

    return [name for name in names() if name.startswith(incomplete)]


_Name = Annotated[
    str, typer.Argument(help="Name from `spikeloom data list`.", autocompletion=_complete)
]
_Root = Annotated[
    Path | None,
    typer.Option(help="Folder with the files; default: $SPIKELOOM_DATA, then ./data."),
]


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the data sets, their published sizes, and where their files were found."""
    from spikeloom.data.registry import sources

    found = {name: (source, folder_of(source)) for name, source in sources().items()}
    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "title": source.title,
                    "published": dict(source.published),
                    "found": None if folder is None else str(folder),
                }
                for name, (source, folder) in found.items()
            ]
        )
        return
    print_table(
        ("data set", "title", "train", "test", "found in"),
        [
            (
                name,
                source.title,
                *(f"{source.published[split]:,}" for split in ("train", "test")),
                "not found" if folder is None else str(folder),
            )
            for name, (source, folder) in found.items()
        ],
        right=("train", "test"),
    )


@app.command()
def check(name: _Name, root: _Root = None) -> None:
    """Read every file of a data set and say what is in it, or what is wrong."""
    from spikeloom.data import check as check_all

    typer.echo(str(check_all(name, root)))


@app.command()
def prepare(name: _Name, root: _Root = None) -> None:
    """Convert a data set's files where that makes training faster."""
    from spikeloom.data import prepare as prepare_all

    typer.echo(prepare_all(name, root))


def folder_of(source: "Source") -> Path | None:
    """The folder with the files of a data set; None if they are not all there."""
    try:
        return source.files(None)[0].parent
    except DataError:
        return None
