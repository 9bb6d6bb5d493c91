"""Every key of a recipe in words: meaning, type, range, default, and value."""

from dataclasses import dataclass

from spikeloom.config import fields
from spikeloom.config.fields import value_text
from spikeloom.config.schema import Recipe
from spikeloom.config.section import Section
from spikeloom.config.suggest import did_you_mean_key
from spikeloom.errors import ConfigError


@dataclass(frozen=True)
class KeyExplanation:
    """One key. `value` is that of the recipe that was asked about, or None without a recipe."""

    key: str
    meaning: str
    type: str
    range: str
    default: str
    value: str | None


def explain(recipe: Recipe | None, network: type[Section] | None) -> list[KeyExplanation]:
    """All keys in schema order, sections left out; `network` is the method's network schema."""
    known = fields.keys(network)
    return [
        KeyExplanation(
            key=name,
            meaning=key.info.description or "",
            type=fields.type_text(key.info.annotation),
            range=fields.range_text(key.info),
            default=fields.default_text(key.info),
            value=None if recipe is None else value_text(_value(recipe, name)),
        )
        for name, key in known.items()
        if key.section is None
    ]


def select(explanations: list[KeyExplanation], key: str, source: str) -> list[KeyExplanation]:
    """Those of one key, of all keys with this last part, or of one section.

    Raises ConfigError with the nearest key if there is none; `source` is what was asked about.
    """
    exact = [one for one in explanations if one.key == key]
    inside = [one for one in explanations if one.key.startswith(f"{key}.")]
    by_leaf = [one for one in explanations if one.key.rpartition(".")[2] == key]
    found = exact or inside or by_leaf
    if not found:
        hint = did_you_mean_key(key, [one.key for one in explanations])
        raise ConfigError(f"{source}: unknown key {key}{hint}")
    return found


def _value(recipe: Recipe, name: str) -> object:
    value: object = recipe
    for part in name.split("."):
        value = getattr(value, part)
    return value
