"""What a checkpoint holds of a user's own objects: values that `torch.load` reads without trust."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeloom.components.callbacks import Callback
from spikeloom.errors import ConfigError
from spikeloom.training.position import Stateful

Generators = torch.Generator | np.random.Generator


class Kept(Callback):
    """An object with `state_dict` and `load_state_dict`, as a callback of the trainer is kept; or
    a generator of torch or numpy.

    Raises:
        ConfigError: `kept`, given as `name`, is neither.
    """

    def __init__(self, name: str, kept: "Stateful | Generators") -> None:
        known = all(hasattr(kept, method) for method in ("state_dict", "load_state_dict"))
        if not known and not isinstance(kept, Generators):
            raise ConfigError(
                f"{name} is a {type(kept).__name__}: give what has state_dict and "
                "load_state_dict, or a generator of torch or numpy"
            )
        self._kept: Any = kept

    def state(self) -> dict[str, Any]:
        if isinstance(self._kept, torch.Generator):
            return {"state": self._kept.get_state()}
        if isinstance(self._kept, np.random.Generator):
            return packed(self._kept.bit_generator.state)
        return packed(self._kept.state_dict())

    def load(self, state: dict[str, Any]) -> None:
        if isinstance(self._kept, torch.Generator):
            self._kept.set_state(state["state"])
        elif isinstance(self._kept, np.random.Generator):
            self._kept.bit_generator.state = unpacked(state)
        else:
            self._kept.load_state_dict(unpacked(state))


@dataclass
class Figures:
    """What `sl.Run` itself remembers besides its position: figures of the user's own."""

    values: dict[str, float] = field(default_factory=dict)
    stopped: bool = False

    def take(self, figures: Mapping[str, Any]) -> None:
        """Remembers numbers by name. Raises ConfigError for one that is not finite, or is none."""
        for name, value in figures.items():
            try:
                number = float(value)
            except (TypeError, ValueError, RuntimeError):
                number = math.nan
            if not math.isfinite(number):
                given = value.tolist() if isinstance(value, Tensor) else value
                raise ConfigError(f"log({name}={given!r}): give a finite number")
            self.values[name] = number

    def state_dict(self) -> dict[str, Any]:
        return vars(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.values, self.stopped = dict(state["values"]), bool(state["stopped"])


_ODD = "float:"


def packed(value: Any) -> Any:
    """Mappings as plain ones, numpy's numbers as Python's, and numbers that are not finite as text:
    a checkpoint takes none (`ReduceLROnPlateau` begins with infinity)."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        return {key: packed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(packed, value)) if type(value) in (list, tuple) else list(value)
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return f"{_ODD}{value}"
    return value


def unpacked(value: Any) -> Any:
    """The values that `packed` was given."""
    if isinstance(value, dict):
        return {key: unpacked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(unpacked, value))
    if isinstance(value, str) and value.startswith(_ODD):
        return float(value.removeprefix(_ODD))
    return value
