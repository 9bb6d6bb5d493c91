"""Layers of torch call the functions of `functional` in place of torch's.

Within `intercepted()` every call of `torch.nn.functional.conv2d`, `conv1d`, `linear` and
`max_pool2d`, from whatever module, goes to ours; hooks, parametrisations and subclasses of layers
work as always.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from spikeloom.synapses import functional, switch

_OURS: dict[Any, Callable[..., Any]] = {
    F.conv2d: functional.conv2d,
    F.conv1d: functional.conv1d,
    F.linear: functional.linear,
    F.max_pool2d: functional.max_pool2d,
}


class _Intercepted(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        ours: Any = _OURS.get(func, func)
        return ours(*args, **(kwargs or {}))


def intercepted() -> AbstractContextManager[Any]:
    """Nothing is intercepted while a program is compiled or traced, or where `sl.sparse("off")`."""
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return nullcontext()
    if switch.setting.mode == "off" and switch.records.get() is None:
        return nullcontext()
    return _Intercepted()
