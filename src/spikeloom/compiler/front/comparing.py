"""Whether what a step read of a neuron is still the same."""

import keyword
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from spikeloom.compiler.front.reads import (
    MISSING,
    NotAValue,
    Path,
    exact,
    follow,
    is_settled,
    kind_of,
)


def exact_at(start: object, path: Path) -> object:
    """The exact value at the end of a path; a module is known by what is read of it."""
    value = follow(start, path)
    if isinstance(value, nn.Module):
        return "module"
    if isinstance(value, Tensor):
        return kind_of(value)
    try:
        return exact(value)
    except NotAValue:
        return "<not a value>"


def key_of(neuron: nn.Module, paths: tuple[Path, ...]) -> tuple[object, ...]:
    """The exact values at the ends of these paths."""
    return tuple(exact_at(neuron, path) for path in paths)


def unchanged(neuron: nn.Module, paths: tuple[Path, ...]) -> Callable[[Any], bool]:
    """A function that says whether a neuron still has the values that `neuron` has now at the ends
    of these paths.

    It is asked in every call: one expression, written out, that compares objects which cannot
    change by identity, and others by value.
    """
    names: dict[str, object] = {"exact_at": exact_at}
    tests: list[str] = []
    for number, path in enumerate(paths):
        value, place = follow(neuron, path), _expression(path)
        names[f"value{number}"] = value
        again = follow(neuron, path)  # a property may make its value anew each time
        if place is None or value is MISSING or again is not value or not is_settled(value):
            names |= {f"value{number}": exact_at(neuron, path), f"path{number}": path}
            tests.append(f"exact_at(neuron, path{number}) == value{number}")
        else:
            tests.append(f"{place} is value{number}")
    lines = [
        "def holds(neuron):",
        "    try:",
        f"        return {' and '.join(tests) or True}",
        "    except (AttributeError, KeyError, IndexError, TypeError, ValueError):",
        "        return False",
    ]
    exec("\n".join(lines), names)
    return names["holds"]  # type: ignore[return-value]


def _expression(path: Path) -> str | None:
    """What reads the end of a path; None if that is not one expression."""
    text = "neuron"
    for step, name in path:
        if step == "get" and name.isidentifier() and not keyword.iskeyword(name):
            text += f".{name}"
        elif step == "child":
            text += f"._modules[{name!r}]"
        elif step == "global":
            text += f".__globals__[{name!r}]"
        elif step == "cell":
            text += f".__closure__[{int(name)}].cell_contents"
        else:
            return None
    return text
