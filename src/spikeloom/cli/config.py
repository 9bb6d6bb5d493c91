"""`spikeloom config`: what a recipe may say, and what it does say."""

from dataclasses import asdict
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from spikeloom.cli import options
from spikeloom.cli.output import print_json, print_table, width
from spikeloom.errors import DataError

if TYPE_CHECKING:
    from spikeloom.config.fields import KeyExplanation

TABLE = 140
"""Columns from which on keys are shown as a table."""

app = typer.Typer(help="Explain, check, and show recipes.", no_args_is_help=True)


@app.command()
def explain(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="Recipe whose values are shown; may be left out.",
            autocompletion=options.complete_recipe,
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Argument(help="Only this key or section, such as lr or training.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Print every field with its meaning, type, range, default, and value."""
    from spikeloom.config.fields import explain as explain_all
    from spikeloom.config.fields import select
    from spikeloom.methods.catalog import load_recipe, methods, recipe_names

    # `config explain lr` asks about a key of no recipe in particular.
    if recipe is not None and key is None:
        named = recipe in recipe_names() or recipe.endswith(".toml") or "/" in recipe
        recipe, key = (recipe, None) if named else (None, recipe)
    if recipe is None:
        sections = _sections(explain_all(None, None))
        for name, method in methods().items():
            keys = explain_all(None, method.network)
            sections[f"[network] of {name}"] = _sections(keys)["[network]"]
    else:
        loaded = load_recipe(recipe)
        sections = _sections(explain_all(loaded, type(loaded.network)))
        for unused in _unused(loaded.data.name):
            sections.pop(f"[data.{unused}]", None)
    if key is not None:
        every = [entry for keys in sections.values() for entry in keys]
        chosen = select(every, key, recipe or "config explain")
        sections = {
            title: [entry for entry in keys if entry in chosen] for title, keys in sections.items()
        }
        sections = {title: members for title, members in sections.items() if members}
    if as_json:
        print_json({title: [asdict(entry) for entry in keys] for title, keys in sections.items()})
        return
    for title, members in sections.items():
        if key is not None and len(members) == 1:
            _print_one(members[0], title, recipe)
        else:
            _print_section(members, title)


@app.command()
def check(recipe: options.Recipe, overrides: options.Overrides = None) -> None:
    """Check a recipe and its overrides, the name of the data set included, without training."""
    from spikeloom.methods.catalog import load_recipe

    resolved = load_recipe(recipe, overrides or ())

    from spikeloom.data import source

    data = source(resolved.data.name)
    typer.echo(f"{resolved.origin}: good ({resolved.method} on {data.name}: {resolved.title})")


@app.command()
def show(recipe: options.Recipe, overrides: options.Overrides = None) -> None:
    """Print the whole recipe as TOML, defaults and overrides included; a start for one's own."""
    from spikeloom.methods.catalog import dump, load_recipe

    resolved = load_recipe(recipe, overrides or ())
    # A file of one's own is its own origin.
    typer.echo(dump(resolved.model_copy(update={"origin": ""})), nl=False)


def _unused(data: str) -> set[str]:
    """Sections of [data] that have no effect on the data set of this name."""
    from spikeloom.data import source

    try:
        return {"images", "frames"} - set(source(data).sections)
    except DataError:  # one that another program registers
        return set()


def _sections(explanations: "list[KeyExplanation]") -> "dict[str, list[KeyExplanation]]":
    """The keys by the section that they are in, under the title that a table of them has."""
    sections: dict[str, list[KeyExplanation]] = {}
    for entry in explanations:
        section = entry.key.rpartition(".")[0]
        sections.setdefault(f"[{section}]" if section else "recipe", []).append(entry)
    return sections


def _print_one(explanation: "KeyExplanation", title: str, recipe: str | None) -> None:
    of_method = title.partition("] of ")[2]
    typer.echo(explanation.key + (f" ({of_method})" if of_method else ""))
    typer.echo(f"  {explanation.meaning}")
    rows = {"type": explanation.type, "range": explanation.range, "default": explanation.default}
    if explanation.value is not None:
        rows["value"] = f"{explanation.value} ({recipe})"
    for name, text in rows.items():
        if text:
            typer.echo(f"  {name:<8} {text}")


def _print_lines(explanations: "list[KeyExplanation]", title: str) -> None:
    """A key is a line with its value, and what it means below: readable where a table is not."""
    typer.echo(title)
    for entry in explanations:
        known = ", ".join(filter(None, (entry.type, entry.range)))
        changed = entry.value not in (None, entry.default)
        usual = f"{known}; default {entry.default}" if changed else known
        value = entry.default if entry.value is None else entry.value
        head = f"{entry.key.rpartition('.')[2]} = {value}"
        for text, margin in ((head, "  "), (f"{entry.meaning} ({usual})", " " * 6)):
            typer.echo(fill(text, width(), initial_indent=margin, subsequent_indent=margin))
    typer.echo()


def _print_section(explanations: "list[KeyExplanation]", title: str) -> None:
    if width() < TABLE:
        _print_lines(explanations, title)
        return
    with_value = explanations[0].value is not None
    print_table(
        ("key", *(["value"] if with_value else []), "default", "type", "range", "meaning"),
        [
            (
                entry.key.rpartition(".")[2],
                *([entry.value or ""] if with_value else []),
                entry.default,
                entry.type,
                entry.range,
                entry.meaning,
            )
            for entry in explanations
        ],
        title=title,
    )
