"""Reading the schema: all keys of a recipe, and each field's type, range, and values in words."""

import json
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from spikeloom.config.schema import Recipe
from spikeloom.config.section import Section

_NAMES = {int: "integer", float: "number", str: "text", bool: "true or false"}


@dataclass(frozen=True)
class Key:
    """One field of a recipe under its dotted name; `section` is set if the field is a section."""

    name: str
    info: FieldInfo
    section: type[Section] | None

    @property
    def leaf(self) -> str:
        return self.name.rpartition(".")[2]


def keys(network: type[Section] | None) -> dict[str, Key]:
    """All keys of a recipe whose network section has the schema `network`, in schema order.

    The origin is left out: the loader sets it.
    """
    found = {key.name: key for key in _keys(Recipe, "", network)}
    del found["origin"]
    return found


def _keys(schema: type[Section], prefix: str, network: type[Section] | None) -> Iterator[Key]:
    for name, info in schema.model_fields.items():
        section = section_of(info.annotation)
        if schema is Recipe and name == "network":
            section = network or section
        yield Key(prefix + name, info, section)
        if section is not None:
            yield from _keys(section, f"{prefix}{name}.", network)


def section_of(annotation: object) -> type[Section] | None:
    """The section class that an annotation is, if it is one."""
    annotation = _bare(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return None


def variants(annotation: object) -> dict[str, type[Section]]:
    """The section classes among which `kind` chooses in a list of sections, by their kind."""
    options = get_args(_bare(annotation))
    if get_origin(_bare(annotation)) is tuple:
        options = get_args(_bare(options[0])) if options else ()
    sections = [section for option in options if (section := section_of(option)) is not None]
    return {
        section.model_fields["kind"].default: section
        for section in sections
        if "kind" in section.model_fields
    }


def type_text(annotation: object) -> str:
    """The type in words: "integer", "list of numbers", "A, B"."""
    annotation = _bare(annotation)
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation in _NAMES:
        return _NAMES[annotation]
    if annotation is types.NoneType:
        return "none"
    if origin is Literal:
        return ", ".join(str(choice) for choice in args)
    if origin in (Union, types.UnionType):
        if kinds := variants(annotation):
            return f"table with kind = {', '.join(kinds)}"
        return " or ".join(type_text(option) for option in args)
    if origin is tuple:
        count = "" if args[-1] is Ellipsis else f"{len(args)} "
        item = type_text(args[0])
        plural = item if " " in item or item == "text" else item + "s"
        return f"list of {count}{plural}"
    if origin is dict:
        return f"table of {type_text(args[0])} = {type_text(args[1])}"
    return "table"


def range_text(info: FieldInfo) -> str:
    """The allowed range in words: "at least 1", "each from 0 to below 1", or an empty text."""
    own = _range(info.metadata)
    if own:
        return own
    items = {_range(getattr(item, "__metadata__", ())) for item in get_args(_bare(info.annotation))}
    items.discard("")
    return " or ".join(f"each {text}" for text in sorted(items))


def expected(info: FieldInfo) -> str:
    """What a value of this field must be, as the end of "expected ..."."""
    if any(getattr(item, "pattern", None) for item in info.metadata):
        return info.description or "text of another form"
    kind = type_text(info.annotation)
    if get_origin(_bare(info.annotation)) is Literal:
        return f"one of {kind}" if ", " in kind else kind
    if kind.startswith(("integer", "number", "list", "table")):
        kind = ("an " if kind.startswith("i") else "a ") + kind
    return ", ".join(text for text in (kind, range_text(info)) if text)


def value_text(value: object) -> str:
    """A value as TOML would write it, on one line; None is `none`."""
    if value is None:
        return "none"
    if isinstance(value, Section):
        return value_text({name: getattr(value, name) for name in type(value).model_fields})
    if isinstance(value, dict):
        inside = ", ".join(f"{key} = {value_text(item)}" for key, item in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(value_text(item) for item in value)}]"
    if isinstance(value, str):
        # Escaped where a character would break the line of a message.
        return json.dumps(value, ensure_ascii=not value.isprintable())
    return str(value).lower() if isinstance(value, bool) else str(value)


def default_text(info: FieldInfo) -> str:
    """The default as TOML would write it, or "required"."""
    return "required" if info.is_required() else value_text(info.get_default())


def _bare(annotation: object) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _range(metadata: object) -> str:
    low = high = ""
    constraints = metadata if isinstance(metadata, list | tuple) else ()
    for item in (part for entry in constraints for part in _constraints(entry)):
        match item:
            case annotated_types.Ge(ge=bound):
                low = f"at least {bound}"
            case annotated_types.Gt(gt=bound):
                low = f"above {bound}"
            case annotated_types.Le(le=bound):
                high = f"at most {bound}"
            case annotated_types.Lt(lt=bound):
                high = f"below {bound}"
            case annotated_types.MinLen(min_length=length):
                low = "not empty" if length == 1 else f"length at least {length}"
    return " and ".join(text for text in (low, high) if text)


def _constraints(entry: object) -> list[object]:
    return list(entry.metadata) if isinstance(entry, FieldInfo) else [entry]
