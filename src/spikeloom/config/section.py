"""What every section of a recipe is: a frozen pydantic model that refuses unknown keys.

Text is never read as a number. TOML arrays become tuples. TOML has no null, so the text "none"
stands for None wherever a field accepts None.
"""

import types
from typing import Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator


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
        return {key: _plain(cls, key, value) for key, value in values.items()}


def accepts_none(annotation: object) -> bool:
    """Whether a field with this annotation may be None."""
    if get_origin(annotation) in (Union, types.UnionType):
        return any(accepts_none(option) for option in get_args(annotation))
    return annotation is None or annotation is types.NoneType


def _plain(section: type[Section], key: object, value: object) -> object:
    field = section.model_fields.get(str(key))
    if value == "none" and field is not None and accepts_none(field.annotation):
        return None
    return _as_tuple(value)


def _as_tuple(value: object) -> object:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value
