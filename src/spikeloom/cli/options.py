"""Arguments and options that several verbs have, and how a shell completes them."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def complete_recipe(incomplete: str) -> list[str]:
    """Recipe names for the shell's completion."""
    from spikeloom.methods.catalog import recipe_names

    return [name for name in recipe_names() if name.startswith(incomplete)]


def complete_method(incomplete: str) -> list[str]:
    """Method names for the shell's completion."""
    from spikeloom.methods.catalog import methods

    return [name for name in methods() if name.startswith(incomplete)]


RECIPE = typer.Argument(
    help="Name from `spikeloom recipes`, or path of a .toml file.", autocompletion=complete_recipe
)
Recipe = Annotated[str, RECIPE]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Fields to change, for example T=4 epochs=10 protocol=B."
    ),
]
RunFolder = Annotated[
    Path, typer.Argument(help="Run folder, its weights.safetensors, or zoo/NAME.")
]
Out = Annotated[
    Path | None, typer.Option(help="Run folder; default: runs/<recipe>/<next free number>.")
]
Checkpoint = Annotated[Literal["best", "last", "previous"], typer.Option(help="Which weights.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, or cuda:N.")]
Root = Annotated[Path | None, typer.Option(help="Where the data are on this machine.")]
Steps = Annotated[
    int | None, typer.Option("--T", help="Time steps to run instead of the recipe's T.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Report = Annotated[
    bool, typer.Option("--report/--no-report", help="Write its report.html at the end.")
]
