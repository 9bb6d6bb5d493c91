"""From files and overrides to one checked recipe, and back to TOML.

extends = "plif/mnist"        # a recipe by name, or "base.toml" beside this file

Files are merged, the extended one first: tables key by key, everything else replaced. `published`
figures belong to the file that states them and are not inherited. Every key remembers the file or
override that it came from, and all mistakes are reported together.
"""

import copy
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from spikeloom import files
from spikeloom.config import overrides
from spikeloom.config.fields import Key, keys, section_of, value_text
from spikeloom.config.overrides import Override
from spikeloom.config.problems import Location, problems
from spikeloom.config.schema import Recipe
from spikeloom.config.section import Component, Section
from spikeloom.errors import ConfigError
from spikeloom.suggest import did_you_mean


@dataclass(frozen=True)
class Library:
    """What recipes may refer to: the network schema of each method, and the named recipes."""

    networks: Mapping[str, type[Section]]
    recipes: Mapping[str, Path]

    def find(self, name_or_path: str | Path) -> tuple[str, Path]:
        """Name and file of a recipe: a name of the library, or the path of a .toml file."""
        name = str(name_or_path)
        if name in self.recipes:
            return name, self.recipes[name]
        if name.endswith(".toml"):
            return name, Path(name)
        of_data = [n for n in self.recipes if f"{n.partition('/')[2]}-".startswith(f"{name}-")]
        names = " or ".join(f'"{n}"' for n in sorted(of_data))
        hint = f"; did you mean {names}?" if names else did_you_mean(name, self.recipes)
        raise ConfigError(f"{name}: unknown recipe{hint} (or give the path of a .toml file)")


def load(name_or_path: str | Path, texts: Sequence[str], library: Library) -> Recipe:
    """The recipe with overrides applied.

    Raises ConfigError with one line for each mistake.
    """
    label, path = library.find(name_or_path)
    merged = _Merged(label)
    for file_label, values in _read_chain(label, path, library):
        for key in ("published", "origin"):
            merged.values.pop(key, None)
        merged.update(file_label, values)
    if not merged.values.get("origin"):
        merged.values["origin"] = label if label in library.recipes else _shown(path.stem)
    return _check(merged, texts, library)


def parse(text: str, library: Library, label: str = "recipe", texts: Sequence[str] = ()) -> Recipe:
    """The recipe that `dump` wrote, with overrides; `label` names its source in error texts."""
    merged = _Merged(label, resolved=True)
    merged.update(label, _parse_toml(text, label))
    return _check(merged, texts, library)


def dump(recipe: Recipe) -> str:
    """The recipe as TOML, every field written out; `parse` gives back an equal recipe."""
    return tomli_w.dumps(recipe.to_dict())


@dataclass
class _Merged:
    """Values of several sources, and which of them each key came from: its number, and a label."""

    label: str
    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[Location, tuple[int, str]] = field(default_factory=dict)
    count: int = 0
    resolved: bool = False
    """Whether it is what `dump` wrote, perhaps of a version whose sections held every key."""

    def update(self, label: str, values: dict[str, Any]) -> None:
        self.count += 1
        self._merge(self.values, values, (self.count, label), ())

    def set(self, label: str, key: str, value: object) -> None:
        """Set a dotted key; a table is merged into what is there, and an empty one replaces it."""
        if value == {}:
            *parts, leaf = key.split(".")
            table: Any = self.values
            for part in parts:
                table = table.get(part, {}) if isinstance(table, dict) else {}
            if isinstance(table, dict):
                table.pop(leaf, None)
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        self.update(label, nested)

    def drop_unused(self) -> None:
        """Takes out what belongs to a component that a later source has exchanged: the momentum of
        an extended recipe's SGD, where `optimizer=adam` came behind it."""
        for name, field_ in Recipe.model_fields.items():
            kind, values = section_of(field_.annotation), self.values.get(name)
            if kind is None or not issubclass(kind, Component) or not isinstance(values, dict):
                continue
            component = kind.chosen(values)
            if component is None:
                continue
            chosen_by = self._age((name, kind.tag))
            for key in values.keys() - component.model_fields.keys():
                known = any(key in choice.model_fields for choice in kind.choices().values())
                if known and (self.resolved or self._age((name, key)) < chosen_by):
                    del values[key]

    def _age(self, location: Location) -> int:
        """How late the source of a location was merged; -1 if it is the default."""
        return self.sources.get(location, (-1, ""))[0]

    def source(self, location: Location) -> str:
        """The source of a location, or of the nearest table around it."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.sources:
                return self.sources[location[:length]][1]
        return self.label

    def _merge(
        self, target: dict[str, Any], new: Any, source: tuple[int, str], at: Location
    ) -> None:
        for key, value in new.items():
            location = (*at, key)
            self.sources[location] = source
            if isinstance(value, dict):
                if not isinstance(target.get(key), dict):
                    target[key] = {}
                self._merge(target[key], value, source, location)
            else:
                target[key] = value


def _check(merged: _Merged, texts: Sequence[str], library: Library) -> Recipe:
    parsed, lines = _split(texts)
    network, unknown = _network_of(merged, parsed, library)
    all_keys = functools.cache(lambda: keys(network))
    written = copy.deepcopy(merged.values) if texts else merged.values
    lines += unknown
    if parsed:
        lines += _apply(parsed, merged, all_keys(), complete=network is not None)
    merged.drop_unused()
    section = Section()
    if network is not None:
        values = merged.values.get("network", {})
        try:
            section = network.model_validate(values)
        except ValidationError as error:
            lines += problems(error, network, values, merged.source, all_keys(), ("network",))
    try:
        recipe = Recipe.model_validate({**merged.values, "network": section})
    except ValidationError as error:
        lines += problems(error, Recipe, merged.values, merged.source, all_keys())
        raise ConfigError("\n".join(lines)) from None
    if lines:
        raise ConfigError("\n".join(lines))
    return recipe if not texts else _without_foreign_figures(recipe, written)


def _split(texts: Sequence[str]) -> tuple[list[Override], list[str]]:
    parsed, lines = [], []
    for text in texts:
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
    parsed: list[Override], merged: _Merged, all_keys: Mapping[str, Key], complete: bool
) -> list[str]:
    """Merge the overrides. If the network's keys are not known (not `complete`), an unknown key
    may be one of them and is no mistake of its own."""
    lines: list[str] = []
    first: dict[str, Override] = {}
    for override in parsed:
        try:
            name, value = overrides.resolve(override, all_keys)
        except ConfigError as error:
            if complete or override.key.partition(".")[0] in Recipe.model_fields:
                lines.append(str(error))
            continue
        if name in first:
            lines.append(f"{override.label}: {name} is already set by {first[name].text}; keep one")
        first[name] = override
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


def _shown(name: str) -> str:
    """A file's name as a text that can be written down, also where it is no UTF-8."""
    return name.encode(errors="backslashreplace").decode()


def _read_chain(label: str, path: Path, library: Library) -> list[tuple[str, dict[str, Any]]]:
    """Label and values of a file and of all that it extends, the most basic first."""
    chain: list[tuple[str, dict[str, Any]]] = []
    labels: dict[Path, str] = {}
    while True:
        if path.resolve() in labels:
            cycle = " -> ".join([*labels.values(), label])
            raise ConfigError(f"{label}: extends runs in a circle: {cycle}; remove one extends")
        labels[path.resolve()] = label
        values = _parse_toml(_text_of(path, label), label)
        parent = values.pop("extends", None)
        chain.insert(0, (label, values))
        if parent is None:
            return chain
        if not isinstance(parent, str):
            raise ConfigError(
                f'{label}: extends: got {value_text(parent)}, expected a recipe name or "file.toml"'
            )
        try:
            label, path = _parent(parent, path, library)
        except ConfigError as error:
            raise ConfigError(f"{label}: extends: {error}") from None


def _parent(parent: str, child: Path, library: Library) -> tuple[str, Path]:
    if not parent.endswith(".toml"):
        return library.find(parent)
    path = child.parent / parent
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file (the name is relative to the file that extends it)"
        )
    return str(path), path


def _text_of(path: Path, label: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{label}: not a TOML file: byte {error.start} is not UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{label}: cannot read the recipe: {error.strerror}") from None


def _parse_toml(text: str, label: str) -> dict[str, Any]:
    try:
        return files.parse_toml(text)
    except ConfigError as error:
        raise ConfigError(f"{label}: {error}") from None
