"""The schema in words: every key of a recipe with its meaning, type, range, default, and value."""

import itertools
import json
import types
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from spikeloom.config.schema import Recipe
from spikeloom.config.section import Component, Section
from spikeloom.errors import ConfigError
from spikeloom.suggest import did_you_mean_key

_NAMES = {int: "integer", float: "number", str: "text", bool: "true or false"}


@dataclass(frozen=True)
class Key:
    """One field of a recipe under its dotted name; `section` is set if the field is a section.

    `of` names the components that have the key, where it is one of a component.
    """

    name: str
    info: FieldInfo
    section: type[Section] | None
    of: tuple[str, ...] = ()

    @property
    def leaf(self) -> str:
        return self.name.rpartition(".")[2]


def keys(network: type[Section] | None, recipe: Recipe | None = None) -> dict[str, Key]:
    """All keys of a recipe whose network section has the schema `network`, in schema order.

    Where a section is one of several, those of all of them, or of the one that `recipe` has. The
    origin is left out: the loader sets it.
    """
    entries = {key.name: key for key in _inside(Recipe, "", recipe, network)}
    del entries["origin"]
    return entries


def _inside(
    schema: type[Section], prefix: str, values: Section | None, network: type[Section] | None
) -> Iterator[Key]:
    """The keys of a section, each followed by the keys inside it where it is a section itself."""
    kinds: dict[str, type[Component]] = {}
    if values is None and issubclass(schema, Component):
        kinds = schema.choices()
    fields: dict[str, FieldInfo] = {}
    for kind in (schema if values is None else type(values), *kinds.values()):
        fields |= {name: info for name, info in kind.model_fields.items() if name not in fields}
    for name, info in fields.items():
        of = tuple(label for label, kind in kinds.items() if name in kind.model_fields)
        section = section_of(info.annotation)
        if schema is Recipe and name == "network":
            section = network or section
        yield Key(prefix + name, info, section, of if len(of) < len(kinds) else ())
        if section is not None:
            value = None if values is None else getattr(values, name)
            yield from _inside(section, f"{prefix}{name}.", value, network)


def section_of(annotation: object) -> type[Section] | None:
    """The section class that an annotation is, if it is one."""
    kind = _bare(annotation)
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def items_of(annotation: object) -> type[Section] | None:
    """The section class of the elements, where an annotation is a list of sections."""
    bare = _bare(annotation)
    return section_of(get_args(bare)[0]) if get_origin(bare) is tuple else None


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
        return " or ".join(type_text(option) for option in args)
    if origin is tuple:
        count = "" if args[-1] is Ellipsis else f"{len(args)} "
        item = type_text(args[0])
        plural = item if " " in item or item == "text" else item + "s"
        return f"list of {count}{plural}"
    if origin is dict:
        return f"table of {type_text(args[0])} = {type_text(args[1])}"
    section = section_of(annotation)
    if section is not None and issubclass(section, Component):
        return f"table with {section.tag} = {', '.join(section.choices())}"
    return "table"


def range_text(info: FieldInfo) -> str:
    """The allowed range in words: "at least 1", "each from 0 to below 1", or an empty text."""
    bounds = _range(info.metadata)
    if bounds:
        return bounds
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


@dataclass(frozen=True)
class KeyExplanation:
    """One key. `default` is as TOML would write it, or "required"; `value` is that of the recipe
    that was asked about, or None without a recipe."""

    key: str
    meaning: str
    type: str
    range: str
    default: str
    value: str | None


def explain(recipe: Recipe | None, network: type[Section] | None) -> list[KeyExplanation]:
    """All keys in schema order, sections left out; `network` is the method's network schema."""
    entries = keys(network, recipe)
    return [
        KeyExplanation(
            key=name,
            meaning=(key.info.description or "") + (f" ({', '.join(key.of)})" if key.of else ""),
            type=_choices(key) or type_text(key.info.annotation),
            range=range_text(key.info),
            default="required" if key.info.is_required() else value_text(key.info.get_default()),
            value=None if recipe is None else value_text(attrgetter(name)(recipe)),
        )
        for name, key in entries.items()
        if key.section is None
    ]


def select(explanations: list[KeyExplanation], key: str, source: str) -> list[KeyExplanation]:
    """Those of one key, of all keys with this last part, or of one section.

    Raises ConfigError with the nearest key if there is none; `source` is what was asked about.
    """
    exact = [entry for entry in explanations if entry.key == key]
    inside = [entry for entry in explanations if entry.key.startswith(f"{key}.")]
    by_leaf = [entry for entry in explanations if entry.key.rpartition(".")[2] == key]
    chosen = exact or inside or by_leaf
    if not chosen:
        names = [entry.key for entry in explanations]
        sections = dict.fromkeys(name.partition(".")[0] for name in names)
        hint = did_you_mean_key(key, [*names, *sections])
        raise ConfigError(f"{source}: unknown key {key}{hint}")
    return chosen


def _choices(key: Key) -> str:
    """The names among which a key chooses a component; empty for another key."""
    section = Recipe.model_fields.get(key.name.partition(".")[0])
    kind = None if section is None else section_of(section.annotation)
    if kind is None or not issubclass(kind, Component) or key.leaf != kind.tag:
        return ""
    return ", ".join(kind.choices())


def _bare(annotation: object) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _range(metadata: object) -> str:
    low = high = ""
    constraints = metadata if isinstance(metadata, list | tuple) else ()
    nested = [entry.metadata if isinstance(entry, FieldInfo) else [entry] for entry in constraints]
    for item in itertools.chain(*nested):
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
