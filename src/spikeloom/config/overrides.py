"""`key=value` on the command line: which field is meant, and which value.

The key is a full dotted name (`training.epochs`), or the last part of one if that is unique
(`epochs`). The value is read as TOML; a bare word is text. A word given to a section sets its
name: `protocol=B`. An entry of a table is named after it: `options.split=sorted`.
"""

import re
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union, get_args, get_origin

from spikeloom import files
from spikeloom.config.fields import Key, value_text
from spikeloom.errors import ConfigError
from spikeloom.suggest import did_you_mean_key

_KEY = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
_TOML_VALUES = (str, int, float, bool, list, dict)


@dataclass(frozen=True)
class Override:
    """One `key=value` as it was given, split at the first equals sign."""

    text: str
    key: str
    raw: str

    @property
    def label(self) -> str:
        """How messages call it, on one line."""
        return _label(self.text)


def split(text: str) -> Override:
    """Split `key=value`; ConfigError if there is no key or no equals sign."""
    key, equals, raw = (part.strip() for part in text.partition("="))
    if not equals or not _KEY.fullmatch(key):
        raise ConfigError(f"{_label(text)}: expected key=value, for example epochs=10")
    if any("\ud800" <= letter <= "\udfff" for letter in raw):
        raise ConfigError(f"{_label(text)}: not UTF-8: give a name that is")
    return Override(text, key, raw)


def resolve(override: Override, keys: Mapping[str, Key]) -> tuple[str, object]:
    """The full dotted name that an override means, and its value; ConfigError if it means none."""
    parent, _, entry = override.key.rpartition(".")
    for table in keys.values():  # an entry of a table of texts: data.options.split=sorted
        if get_origin(table.info.annotation) is dict and parent in (table.name, table.leaf):
            return f"{table.name}.{entry}", override.raw.strip("\"'")
    key = _find(override, keys)
    value = _read(override.raw, key)
    if key.section is None or isinstance(value, dict):
        return key.name, value
    named = keys.get(f"{key.name}.name")
    if isinstance(value, str) and named is not None:
        return named.name, value
    inside = ", ".join(f"{key.name}.{field}" for field in key.section.model_fields)
    raise ConfigError(f"{override.label}: {key.name} is a section; set one of {inside}")


def _label(text: str) -> str:
    shown = text if text.isprintable() else value_text(text)
    return f"override {shown if len(shown) < 200 else f'{shown[:200]}...'}"


def _find(override: Override, keys: Mapping[str, Key]) -> Key:
    if override.key in keys:
        return keys[override.key]
    candidates = [key for key in keys.values() if key.leaf == override.key]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        names = " or ".join(f'"{key.name}"' for key in candidates)
        raise ConfigError(f"{override.label}: ambiguous key {override.key}; write {names}")
    hint = did_you_mean_key(override.key, keys)
    raise ConfigError(f"{override.label}: unknown key {override.key}{hint}")


def _read(raw: str, key: Key) -> object:
    if _is_text(key.info.annotation) and not raw.startswith(('"', "'")):
        return raw
    try:
        parsed = files.parse_toml(f"value = {raw}")
    except ConfigError:
        return _read_loosely(raw)
    value = parsed.pop("value")
    # A line break in the value could start a second key; dates are nothing that a recipe holds.
    return value if not parsed and isinstance(value, _TOML_VALUES) else raw


def _read_loosely(raw: str) -> object:
    """Numbers and booleans in spellings that TOML refuses (`.5`, `True`); else a bare word."""
    if raw in ("True", "False"):
        return raw == "True"
    for number in (int, float):
        try:
            return number(raw)
        except ValueError:
            continue
    return raw


def _is_text(annotation: object) -> bool:
    """Whether a field takes text (or none) and nothing that TOML writes without quotes."""
    if get_origin(annotation) in (Union, types.UnionType):
        options = [option for option in get_args(annotation) if option is not types.NoneType]
        return all(_is_text(option) for option in options)
    return annotation is str
