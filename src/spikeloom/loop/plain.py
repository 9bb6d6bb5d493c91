"""What a checkpoint holds of a user's own objects: values that `torch.load` reads without trust."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from spikeloom.components.callbacks import Callback
from spikeloom.training.position import Stateful


class Kept(Callback):
    """An object with `state_dict` and `load_state_dict`, as a callback of the trainer is kept."""

    def __init__(self, stateful: Stateful) -> None:
        self._stateful = stateful

    def state(self) -> dict[str, Any]:
        return packed(self._stateful.state_dict())

    def load(self, state: dict[str, Any]) -> None:
        self._stateful.load_state_dict(unpacked(state))


@dataclass
class Figures:
    """What `sl.Run` itself remembers besides its position: figures of the user's own."""

    values: dict[str, float] = field(default_factory=dict)
    stopped: bool = False

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
