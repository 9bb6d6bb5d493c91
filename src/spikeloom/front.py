"""Training by a recipe's name, from Python: `spikeloom.train` and `spikeloom.recipes`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from spikeloom import training
from spikeloom.config.fields import value_text
from spikeloom.methods import catalog
from spikeloom.run.folder import new_folder, runs_of
from spikeloom.training import RunResult


def recipes() -> list[str]:
    """The names of all recipes, such as "plif/digits", in alphabetical order."""
    return catalog.recipe_names()


def train(
    recipe: Path | str,
    *,
    out: Path | str | None = None,
    console: Console | None = None,
    changes: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> RunResult:
    """Trains a recipe into a new run folder, as `spikeloom train` does.

        result = sl.train("plif/digits", epochs=4, T=4)
        result = sl.train("plif/digits", changes={"optimizer.lr": 1e-3})

    Args:
        recipe: A name from `recipes()`, or the path of a .toml file.
        out: The run folder to make; `runs/<recipe>/<next free number>` by default.
        console: Where progress is shown; standard output by default.
        changes: Fields of the recipe by their full names.
        overrides: Fields by the last part of their names, where that is unique.

    Returns:
        The result: `folder`, and the figures of the epoch that the protocol reports.

    Raises:
        ConfigError: the recipe, a field, or a value is wrong; one line for each mistake.
        DataError, RunError, NonFiniteError, CheckpointError, OutOfMemoryError: as
            `spikeloom.training.train`.
    """
    texts = [f"{key}={_text(value)}" for key, value in {**(changes or {}), **overrides}.items()]
    resolved = catalog.load_recipe(recipe, texts)
    parent = runs_of(resolved.origin)
    with training.processes(), new_folder(None if out is None else Path(out), parent) as folder:
        return training.train(resolved, folder, console=console)


def _text(value: Any) -> str:
    """A value as the command line has it."""
    return str(value) if isinstance(value, str | Path) else value_text(value)
