"""Recipe files: where they are, and what they extend.

extends = "plif/mnist"        # a recipe by name, or "base.toml" beside this file
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikeloom.config.fields import value_text
from spikeloom.config.section import Section
from spikeloom.config.suggest import did_you_mean
from spikeloom.errors import ConfigError


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
        hint = did_you_mean(name, self.recipes)
        raise ConfigError(f"{name}: unknown recipe{hint} (or give the path of a .toml file)")


def read_chain(label: str, path: Path, library: Library) -> list[tuple[str, dict[str, Any]]]:
    """Label and values of a file and of all that it extends, the most basic first."""
    chain: list[tuple[str, dict[str, Any]]] = []
    seen: dict[Path, str] = {}
    while True:
        if path.resolve() in seen:
            cycle = " -> ".join([*seen.values(), label])
            raise ConfigError(f"{label}: extends runs in a circle: {cycle}; remove one extends")
        seen[path.resolve()] = label
        values = parse_toml(_text_of(path, label), label)
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


def parse_toml(text: str, label: str) -> dict[str, Any]:
    """The tables of a TOML text; ConfigError with the line if it is not TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason = str(error)
        found = re.search(r" \(at line (\d+), column (\d+)\)$", reason)
        if found:
            reason, line = reason[: found.start()], int(found[1])
        else:
            reason, line = reason.removesuffix(" (at end of document)"), text.count("\n") + 1
        raise ConfigError(f"{label}: line {line}: not valid TOML: {reason}") from None
