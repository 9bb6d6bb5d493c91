"""From files and overrides to one checked recipe, and back to TOML.

Files are merged, the extended one first: tables key by key, everything else replaced. `published`
figures belong to the file that states them and are not inherited. Every key remembers the file or
override that it came from, and all mistakes are reported together.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from spikeloom.config import overrides
from spikeloom.config.fields import Key, keys
from spikeloom.config.files import Library, parse_toml, read_chain
from spikeloom.config.overrides import Override
from spikeloom.config.problems import Location, problems
from spikeloom.config.schema import Recipe
from spikeloom.config.section import Section
from spikeloom.config.suggest import did_you_mean
from spikeloom.errors import ConfigError


def load(name_or_path: str | Path, given: Sequence[str], library: Library) -> Recipe:
    """The recipe with overrides applied.

    Raises ConfigError with one line for each mistake.
    """
    label, path = library.find(name_or_path)
    merged = _Merged(label)
    for file_label, values in read_chain(label, path, library):
        for own in ("published", "origin"):
            merged.values.pop(own, None)
        merged.update(file_label, values)
    if not merged.values.get("origin"):
        merged.values["origin"] = label if label in library.recipes else path.stem
    return _check(merged, given, library)


def parse(text: str, library: Library, label: str = "recipe") -> Recipe:
    """The recipe that `dump` wrote; `label` names its source in error texts."""
    merged = _Merged(label)
    merged.update(label, parse_toml(text, label))
    return _check(merged, (), library)


def dump(recipe: Recipe) -> str:
    """The recipe as TOML, every field written out; `parse` gives back an equal recipe."""
    return tomli_w.dumps(recipe.to_dict())


@dataclass
class _Merged:
    """Values of several sources, and which of them each key came from."""

    label: str
    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[Location, str] = field(default_factory=dict)

    def update(self, label: str, values: dict[str, Any]) -> None:
        self._merge(self.values, values, label, ())

    def set(self, label: str, key: str, value: object) -> None:
        """Set a dotted key; a table is merged into what is there, and an empty one replaces it."""
        if value == {}:
            *parts, leaf = key.split(".")
            table: Any = self.values
            for part in parts:
                table = table.get(part, {}) if isinstance(table, dict) else {}
            if isinstance(table, dict):
                table.pop(leaf, None)
        for part in reversed(key.split(".")):
            value = {part: value}
        self._merge(self.values, value, label, ())

    def source(self, location: Location) -> str:
        """The source of a location, or of the nearest table around it."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.sources:
                return self.sources[location[:length]]
        return self.label

    def _merge(self, target: dict[str, Any], new: Any, label: str, at: Location) -> None:
        for key, value in new.items():
            here = (*at, key)
            self.sources[here] = label
            if isinstance(value, dict):
                if not isinstance(target.get(key), dict):
                    target[key] = {}
                self._merge(target[key], value, label, here)
            else:
                target[key] = value


def _check(merged: _Merged, given: Sequence[str], library: Library) -> Recipe:
    parsed, lines = _split(given)
    network, unknown = _network_of(merged, parsed, library)
    known = keys(network)
    written = copy.deepcopy(merged.values)
    lines += unknown
    lines += _apply(parsed, merged, known, complete=network is not None)
    section = Section()
    if network is not None:
        values = merged.values.get("network", {})
        try:
            section = network.model_validate(values)
        except ValidationError as error:
            lines += problems(error, network, values, merged.source, known, ("network",))
    try:
        recipe = Recipe.model_validate({**merged.values, "network": section})
    except ValidationError as error:
        lines += problems(error, Recipe, merged.values, merged.source, known)
        raise ConfigError("\n".join(lines)) from None
    if lines:
        raise ConfigError("\n".join(lines))
    return _without_foreign_figures(recipe, written)


def _split(given: Sequence[str]) -> tuple[list[Override], list[str]]:
    parsed, lines = [], []
    for text in given:
        try:
            parsed.append(overrides.split(text))
        except ConfigError as error:
            lines.append(str(error))
    return parsed, lines


def _network_of(
    merged: _Merged, parsed: list[Override], library: Library
) -> tuple[type[Section] | None, list[str]]:
    """The network schema of the recipe's method; None, and why, if there is no such method."""
    method, source = merged.values.get("method"), merged.source(("method",))
    for override in parsed:
        if override.key == "method":
            method, source = override.raw, override.label
    if not isinstance(method, str):
        return None, []
    if method in library.networks:
        return library.networks[method], []
    hint = did_you_mean(method, library.networks)
    return None, [f'{source}: method: unknown method "{method}"{hint}']


def _apply(
    parsed: list[Override], merged: _Merged, known: Mapping[str, Key], complete: bool
) -> list[str]:
    """Merge the overrides. If the network's keys are not known (not `complete`), an unknown key
    may be one of them and is no mistake of its own."""
    lines: list[str] = []
    seen: dict[str, Override] = {}
    for override in parsed:
        try:
            name, value = overrides.resolve(override, known)
        except ConfigError as error:
            if complete or override.key.partition(".")[0] in Recipe.model_fields:
                lines.append(str(error))
            continue
        if name in seen:
            lines.append(f"{override.label}: {name} is already set by {seen[name].text}; keep one")
        seen[name] = override
        merged.set(override.label, name, value)
    return lines


def _without_foreign_figures(recipe: Recipe, written: dict[str, Any]) -> Recipe:
    """Published figures hold for the network and the data set of the recipe as it was written."""
    if not recipe.published:
        return recipe
    try:
        network = type(recipe.network).model_validate(written.get("network", {}))
    except ValidationError:
        network = None
    if network == recipe.network and written.get("data", {}).get("name") == recipe.data.name:
        return recipe
    return recipe.model_copy(update={"published": {}})
