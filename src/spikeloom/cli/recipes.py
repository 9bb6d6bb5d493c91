"""`spikeloom recipes`: what can be trained."""

from typing import Annotated

import typer

from spikeloom.cli import options
from spikeloom.cli.output import print_json, print_table
from spikeloom.errors import ConfigError


def recipes(
    method: Annotated[
        str | None,
        typer.Argument(
            help="Only the recipes of this method.", autocompletion=options.complete_method
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List the recipes with their data sets and published accuracies (percent)."""
    from spikeloom.methods.catalog import load_recipe, methods, recipe_names
    from spikeloom.suggest import did_you_mean

    if method is not None and method not in methods():
        raise ConfigError(f"{method}: unknown method{did_you_mean(method, methods())}")
    listed = {name: load_recipe(name) for name in recipe_names()}
    chosen = {name: recipe for name, recipe in listed.items() if method in (None, recipe.method)}
    if as_json:
        print_json(
            [
                {
                    "recipe": name,
                    "method": recipe.method,
                    "title": recipe.title,
                    "data": recipe.data.name,
                    "published": recipe.published,
                    "notes": recipe.notes,
                }
                for name, recipe in chosen.items()
            ]
        )
        return
    print_table(
        ("recipe", "title", "data set", "published A", "published B"),
        [
            (
                name,
                recipe.title,
                recipe.data.name,
                _percent(recipe.published.get("A")),
                _percent(recipe.published.get("B")),
            )
            for name, recipe in chosen.items()
        ],
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
