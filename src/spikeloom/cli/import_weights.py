"""`spikeloom import`: a checkpoint of the original authors becomes a run folder."""

from pathlib import Path
from typing import Annotated

import typer

from spikeloom.cli import options


def import_weights(
    file: Annotated[Path, typer.Argument(help="Checkpoint that the method's authors published.")],
    recipe: options.Recipe,
    overrides: options.Overrides = None,
    out: options.Out = None,
) -> None:
    """Make a run folder from published weights, for `spikeloom eval` or `spikeloom resume`."""
    from spikeloom.methods.catalog import load_recipe

    resolved = load_recipe(recipe, overrides or ())

    from spikeloom import training
    from spikeloom.run.folder import new_folder, runs_of

    with new_folder(out, runs_of(resolved.origin)) as folder:
        training.adopt(resolved, file, folder)
        typer.echo(f"run folder {folder}: `spikeloom eval {folder}` measures it")
