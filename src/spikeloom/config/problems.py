"""pydantic's errors in the library's words: where, what was given, what was expected."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from spikeloom.config.fields import expected, items_of, section_of, type_text, value_text
from spikeloom.config.section import Component, Section
from spikeloom.suggest import did_you_mean_key

Location = tuple[int | str, ...]


@dataclass(frozen=True)
class _Place:
    """Where an error lies: its field (None: an unknown key), and the section around it."""

    location: Location
    info: FieldInfo | None
    section: type[Section]


def problems(
    error: ValidationError,
    schema: type[Section],
    values: object,
    source: Callable[[Location], str],
    names: Iterable[str],
    within: Location = (),
) -> list[str]:
    """One line per mistake in the `values` that `schema` refused.

    They lie at `within` in the recipe. `source` names the file or override that a location came
    from; `names` are the dotted names of all keys of the recipe, for suggestions.
    """
    names = list(names)
    # Several elements of one list may be wrong; the list is then reported once.
    lines: dict[str, None] = {}
    for detail in error.errors(include_url=False):
        place = _locate(schema, detail["loc"], values)
        location = within + place.location
        text = _text(detail, place, _dotted(location), _at(values, place.location), names)
        lines[f"{source(location)}: {_dotted(location)}: {text}"] = None
    return list(lines)


def _locate(schema: type[Section], loc: Location, values: object) -> _Place:
    """Follow pydantic's location until a value that has no keys."""
    location: Location = ()
    section, info = schema, None
    parts = iter(loc)
    for part in parts:
        location += (part,)
        info = section.model_fields.get(str(part))
        if info is None:
            break
        values = _at(values, (part,))
        inner = section_of(info.annotation)
        if inner is None:
            inner, index = items_of(info.annotation), next(parts, None)
            if inner is None or index is None:
                break
            location += (index,)
            values = _at(values, (index,))
        if issubclass(inner, Component) and isinstance(values, dict):
            inner = inner.chosen(values) or inner
        section = inner
    return _Place(location, info, section)


def _text(detail: Any, place: _Place, key: str, value: object, names: list[str]) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden":
        prefix = key.rpartition(".")[0]
        siblings = [f"{prefix}.{name}" for name in place.section.model_fields] if prefix else []
        return "unknown key" + did_you_mean_key(key, [*siblings, *names])
    if kind == "choice":
        return f"{'missing' if value is _MISSING else f'got {value_text(value)}'}, {detail['msg']}"
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    if place.info is None:
        return f"got {value_text(value)}, expected a table"
    if value is _MISSING:
        return f"missing, expected {expected(place.info)}"
    if isinstance(place.location[-1], int):
        item = type_text(items_of(place.info.annotation))
        return f"got {value_text(value)}, expected a {item}"
    return f"got {value_text(value)}, expected {expected(place.info)}"


_MISSING = object()


def _at(values: Any, location: Location) -> object:
    for part in location:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return _MISSING
    return values


def _dotted(location: Location) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")
