"""The parts that a recipe is made of: sections, and sections that are one of several.

A section is a frozen schema. TOML has no null: "none" stands for it where a field accepts None. A
component is a section whose first key chooses it among others of its kind, such as `name = "adam"`
among the optimizers; whoever adds one writes a class and registers it, and edits nothing else.
"""

import functools
import pkgutil
import types
from importlib import import_module
from typing import Any, ClassVar, Self, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from spikeloom import extensions
from spikeloom.errors import ConfigError
from spikeloom.suggest import did_you_mean


class Section(BaseModel):
    """Base class of a recipe and of its sections.

    A method declares the schema of its `[network]` section as a subclass: one line of docstring,
    every field as `Field(default=..., ge=..., description=...)`, with a range where it has one.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _from_toml(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        plain = {}
        for key, value in values.items():
            if isinstance(value, list):
                value = _as_tuple(value)
            elif value == "none":
                field = cls.model_fields.get(str(key))
                value = None if field is not None and accepts_none(field.annotation) else value
            plain[key] = value
        return plain


class Component(Section):
    """A section that is one of a kind: an optimizer, a schedule, a protocol, a loss, a change of
    training samples, a callback.

    The kind is a direct subclass, with `what` as its name and `tag` as the key that chooses; a
    component is a subclass of that, whose `tag` field has its name as default. Keys of another
    component of the kind are refused, unless they have the default that it has there.
    """

    what: ClassVar[str] = ""
    tag: ClassVar[str] = "name"

    @classmethod
    def name_of(cls) -> str:
        """The name under which it is chosen."""
        return cls.model_fields[cls.tag].default

    @classmethod
    def family(cls) -> type["Component"]:
        """The kind that it is one of; of a kind, the kind itself."""
        return next(base for base in reversed(cls.__mro__) if vars(base).get("what"))

    @classmethod
    def choices(cls) -> dict[str, type["Component"]]:
        """All components of this kind by name, in the order in which they were registered."""
        _discover()
        return _registered.get(cls.family(), {})

    @classmethod
    def chosen(cls, values: dict[str, Any]) -> type["Component"] | None:
        """The component that `values` name (the default one if they do not); None if unknown."""
        name = values.get(cls.tag, cls.name_of())
        return cls.choices().get(name) if isinstance(name, str) else None

    @model_validator(mode="wrap")
    @classmethod
    def _choose(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(values, dict):
            return handler(values)
        component = cls.chosen(values)
        if component is None and (cls.tag in values or cls.model_fields[cls.tag].is_required()):
            raise _refused(cls, values, values.get(cls.tag))
        if component is not None and component is not cls:
            return component.model_validate(values)  # type: ignore[return-value]
        for key in values.keys() - cls.model_fields.keys():
            owners = {n: kind for n, kind in cls.choices().items() if key in kind.model_fields}
            plain = _as_tuple(values[key])
            if any(plain == kind.model_fields[key].default for kind in owners.values()):
                values = {name: value for name, value in values.items() if name != key}
            elif owners:
                others = " or ".join(f'"{name}"' for name in owners)
                given = repr(values[key]) if isinstance(values[key], str) else values[key]
                raise ValueError(
                    f"{key} = {given} has no effect on {cls.name_of()}; "
                    f"set {cls.tag} = {others} or remove it"
                )
        return handler(values)


C = TypeVar("C", bound=type[Component])

_registered: dict[type[Component], dict[str, type[Component]]] = {}


def register(component: C) -> C:
    """Makes a component known under its name, as a decorator of its class.

    A module of another package does so by being an entry point of the group
    "spikeloom.components"; a program, by calling it before it loads a recipe.

    Raises:
        ConfigError: another component of the kind has the name.
    """
    known = _registered.setdefault(component.family(), {})
    if known.setdefault(component.name_of(), component) is not component:
        raise ConfigError(
            f"there is a {component.what} {component.name_of()!r} already: choose another name"
        )
    return component


def replaced(section: Section, **changes: object) -> Any:
    """`section` with other values, checked as those of a recipe are."""
    values = {name: getattr(section, name) for name in type(section).model_fields}
    return type(section).model_validate(values | changes)


@functools.cache
def _discover() -> None:
    """Imports what registers itself: the modules of the folder `components`, and those that other
    packages declare."""
    package = import_module("spikeloom.components")
    for info in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{info.name}")
    for _ in extensions.modules("spikeloom.components"):
        pass


def _refused(kind: type[Component], values: object, name: object) -> ValidationError:
    known = list(kind.choices())
    hint = did_you_mean(name, known) if isinstance(name, str) else ""
    hint = hint if hint.startswith("; did") else ""
    text = f"expected one of {', '.join(known)}{hint}"
    error = PydanticCustomError("choice", "{text}", {"text": text})
    detail = InitErrorDetails(type=error, loc=(kind.tag,), input=values)
    return ValidationError.from_exception_data(kind.__name__, [detail])


def accepts_none(annotation: object) -> bool:
    """Whether a field with this annotation may be None."""
    if get_origin(annotation) in (Union, types.UnionType):
        return any(accepts_none(option) for option in get_args(annotation))
    return annotation is None or annotation is types.NoneType


def _as_tuple(value: object) -> object:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value
