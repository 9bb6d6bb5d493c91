"""Constants that no parameter and no buffer holds: they travel with the weights, and are compared.

A state dict has no place for a plain `tau = 2.0`. It has metadata, which loading reads, saving
keeps, and nobody else looks at: there every module of this kind writes its constants.
"""

import inspect
from functools import cache
from typing import Any

from torch import nn

_PLAIN = (bool, int, float, str, type(None))
_NOT_COMPUTED_WITH = frozenset(("backend", "detach_reset", "surrogate"))
"""Constructor arguments that change no output."""


class FixedConstants(nn.Module):
    """A module whose state dict says with which constants its weights were made.

    `load_state_dict` refuses weights that were saved with other constants: the same numbers would
    be another network. A state dict without them (from an older version, another library, or
    rebuilt as `dict(state_dict)`) is loaded without a word.
    """

    def fixed(self) -> dict[str, Any]:
        """What is compared: the class, as `kind`, and the constructor's arguments that are plain
        attributes of the same name.

        Override to add others; numbers, texts, None, and lists of these.
        """
        values = {name: self.__dict__.get(name, ...) for name in _arguments(type(self))}
        plain = {name: value for name, value in values.items() if isinstance(value, _PLAIN)}
        return {"kind": _kinds(type(self)), **plain}

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if hasattr(destination, "_metadata"):
            destination._metadata.setdefault(prefix[:-1], {})["constants"] = self.fixed()

    def _load_from_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)
        errors: list[str] = rest[-1]
        saved, ours = dict(local_metadata.get("constants", {})), self.fixed()
        kind, our_kind = saved.pop("kind", None), ours.pop("kind", None)
        different = [name for name in saved if name in ours and ours[name] != saved[name]]
        saved_text, our_text = (
            ", ".join(f"{name}={constants[name]!r}" for name in different)
            for constants in (saved, ours)
        )
        # A subclass may take the weights of its base, and the other way round.
        if kind and our_kind and kind[0] not in our_kind and our_kind[0] not in kind:
            saved_text, our_text = kind[0], our_kind[0]
        if not saved_text:
            return
        errors.append(
            f"{prefix[:-1] or type(self).__name__}: the weights were made with {saved_text}, and "
            f"this network has {our_text}: build it with the same constants, or load "
            "dict(state_dict), which does not know them, to change them on purpose."
        )


@cache
def _arguments(kind: type) -> tuple[str, ...]:
    """The names of the constructors' arguments, from the base class on."""
    names: dict[str, None] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, FixedConstants) and "__init__" in base.__dict__:
            names |= dict.fromkeys(inspect.signature(base.__init__).parameters)
    return tuple(name for name in names if name not in _NOT_COMPUTED_WITH)


def _kinds(kind: type) -> list[str]:
    """The names of the class and those it derives from."""
    return [base.__name__ for base in kind.__mro__ if issubclass(base, FixedConstants)][:-1]
