"""Whether a layer draws random numbers: one that does is not computed once for all time steps."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_DRAW_IN_TRAINING = (nn.modules.dropout._DropoutNd, nn.RReLU)
_MAY_DRAW = (nn.FractionalMaxPool2d, nn.FractionalMaxPool3d, nn.MultiheadAttention)
_KNOWN = ("torch.nn.modules.", "spikeloom.")
"""Packages whose other layers draw nothing."""


class _Drew(BaseException):
    """A random number was about to be drawn."""


class _Watch(TorchDispatchMode):
    """Stops a computation before its first operation that draws random numbers."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise _Drew
        return func(*args, **(kwargs or {}))


def if_settled(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor | None:
    """`function(x)`; None if that draws random numbers. Nothing is drawn then, and no buffer of a
    module has changed.

    Torch's own layers are known; what anything else does, a layer with hooks too, is watched.
    Random numbers from elsewhere than torch are not seen.
    """
    layers = list(function.modules()) if isinstance(function, nn.Module) else []
    for layer in layers:
        if layer.training and isinstance(layer, _DRAW_IN_TRAINING) and getattr(layer, "p", 1) > 0:
            return None
    if layers and all(_is_known(layer) for layer in layers):
        return function(x)
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return None  # nothing can be watched here: to compute every step is right in any case
    buffers = [(buffer, buffer.clone()) for layer in layers[:1] for buffer in layer.buffers()]
    try:
        with _Watch():
            return function(x)
    except _Drew:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        return None


def _is_known(layer: nn.Module) -> bool:
    return (
        type(layer).__module__.startswith(_KNOWN)
        and not isinstance(layer, _MAY_DRAW)
        and not layer._forward_pre_hooks
        and not layer._forward_hooks
    )
