"""`spikeloom data`: list, check, download, prepare, and look at data sets."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikeloom.cache_home import cache_root
from spikeloom.cli import options as common
from spikeloom.cli.output import print_json, print_table
from spikeloom.errors import ConfigError, DataError

if TYPE_CHECKING:
    from spikeloom.data import Source

app = typer.Typer(help="List, check, download, prepare, and show data sets.", no_args_is_help=True)


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
def list_(as_json: common.Json = False) -> None:
    """List the data sets, their published sizes, and where their files were found."""
    from spikeloom.data.registry import sources

    places = {name: (source, folder_of(source)) for name, source in sources().items()}
    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "title": source.title,
                    "published": dict(source.published),
                    "found": None if folder is None else str(folder),
                    "prepared": prepared_bytes(name),
                }
                for name, (source, folder) in places.items()
            ]
        )
        return
    print_table(
        ("data set", "title", "train", "test", "found in", "prepared"),
        [
            (
                name,
                source.title,
                *(f"{source.published[split]:,}" for split in ("train", "test")),
                "not found" if folder is None else str(folder),
                _megabytes(prepared_bytes(name)),
            )
            for name, (source, folder) in places.items()
        ],
    )


@app.command()
def check(name: _Name, root: _Root = None) -> None:
    """Read every file of a data set and say what is in it, or what is wrong."""
    from spikeloom.data import check as check_all

    typer.echo(str(check_all(name, root)))


@app.command()
def prepare(
    name: Annotated[
        str,
        typer.Argument(
            help="A data set, or a recipe whose frames to prepare.", autocompletion=_complete
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Of the recipe.")
    ] = None,
    root: _Root = None,
) -> None:
    """Convert a data set's files where that makes training faster; done once, on all cores."""
    changes = list(overrides or ())
    if "/" not in name and not name.endswith(".toml"):
        if changes:
            raise ConfigError(
                f"{changes[0]}: {name} is a data set; give a recipe to prepare frames of your own"
            )
        from spikeloom.data import prepare as prepare_all

        typer.echo(prepare_all(name, root))
        return
    from spikeloom.data import for_recipe
    from spikeloom.methods.catalog import load_recipe

    if root is not None:
        changes.append(f"data.root={str(root)!r}")
    typer.echo(for_recipe.prepare(load_recipe(name, tuple(changes))))


@app.command()
def get(name: _Name, root: _Root = None) -> None:
    """Download a data set where its publisher allows it; a broken download is tried again."""
    from spikeloom.data.fetch import get as download

    with _bars(unit="bytes") as show_bar:
        paths = download(name, root, show_bar)
    for path in paths:
        typer.echo(f"{path}  {path.stat().st_size:,} bytes")


@app.command()
def show(
    name: _Name,
    index: Annotated[int, typer.Option(help="Which recording of the split.")] = 0,
    split: Annotated[str, typer.Option(help="train or test.")] = "train",
    root: _Root = None,
    out: Annotated[Path, typer.Option(help="Folder for the picture and the GIF.")] = Path(),
    options: Annotated[
        list[str] | None,
        typer.Option("--option", help="KEY=VALUE of data.options, for data of your own."),
    ] = None,
) -> None:
    """Draw a recording: its frames, its events over time, and an animation.

    Given a folder or file of your own: say what it is understood as.
    """
    if "/" in name or Path(name).expanduser().exists():
        from spikeloom.data.survey import describe_own

        given = [option.partition("=") for option in options or ()]
        typer.echo(describe_own(Path(name).expanduser(), {key: value for key, _, value in given}))
        return
    from spikeloom.report.recording import show as draw

    shown = draw(name, index, split=split, root=root, output=out)
    typer.echo(f"{shown.text}\n{shown.picture}\n{shown.animation}")


@app.command()
def shards(
    name: Annotated[
        str,
        typer.Argument(
            help="A set of images in folders, such as imagenet.", autocompletion=_complete
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to make; give it as data.root then.")],
    root: _Root = None,
    megabytes: Annotated[int, typer.Option(min=1, help="Size of a shard.")] = 256,
) -> None:
    """Pack a folder of images into a few tar files with an index, as they are."""
    from spikeloom.data.registry import source

    with _bars("packing ") as show_bar:
        made = source(name).make_shards(root, out, megabytes << 20, show_bar)
    typer.echo(
        f"{out}: {len(made.train):,} + {len(made.test):,} images of {made.spec.class_count} "
        f"classes; train with data.root={out}"
    )


@app.command()
def clear(
    name: Annotated[
        str, typer.Argument(help="A data set; none: all of them.", autocompletion=_complete)
    ] = "",
) -> None:
    """Remove prepared frames; the publisher's files stay."""
    from spikeloom.data.events import cache

    if name:
        from spikeloom.data import source

        source(name)
    freed = cache.clear(name)
    typer.echo(f"{_megabytes(freed)} freed in {cache_root()}")


@contextmanager
def _bars(title: str = "", unit: str = "") -> "Iterator[Callable[[str, int, int | None], None]]":
    """Shows how far one thing after the other is: (name, done, total)."""
    from spikeloom.progress import Bar

    bars: dict[str, Bar] = {}
    with ExitStack() as stack:

        def show(name: str, done: int, total: int | None) -> None:
            if name not in bars:
                stack.close()
                bars[name] = stack.enter_context(Bar(title + name, unit=unit))
            bars[name].show(done, total)

        yield show


def folder_of(source: "Source") -> Path | None:
    """The folder with the files of a data set; None if they are not all there, or it has none."""
    try:
        files = source.files(None)
    except DataError:
        return None
    if not files:
        return None
    return files[0] if files[0].is_dir() else files[0].parent


def prepared_bytes(name: str) -> int:
    """Bytes of the frames that are prepared for a data set, in whatever way they were cut."""
    from spikeloom.data.events.cache import stored

    owners = (f"{name}-train-", f"{name}-test-")
    return sum(frames.bytes for frames in stored() if frames.folder.name.startswith(owners))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size else "-"
