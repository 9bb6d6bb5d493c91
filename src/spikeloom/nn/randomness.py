"""Whether a layer draws random numbers: one that does is not computed once for all time steps."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_DRAW_IN_TRAINING = (nn.modules.dropout._DropoutNd, nn.RReLU)
_MAY_DRAW = (nn.FractionalMaxPool2d, nn.FractionalMaxPool3d, nn.MultiheadAttention)
_GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)
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
    """`function(x)`; None if that draws random numbers. Then none of torch's is drawn, and no
    buffer of a module has changed.

    Torch's own layers are known; what anything else does, a layer with hooks too, is watched. Of
    numpy and Python seen are the global generators, and those in attributes of layers.
    """
    layers = list(function.modules()) if isinstance(function, nn.Module) else []
    for layer in layers:
        if layer.training and isinstance(layer, _DRAW_IN_TRAINING) and getattr(layer, "p", 1) > 0:
            return None
    if layers and all(_is_known(layer) for layer in layers):
        return function(x)
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return None  # nothing can be watched here: to compute every step is right in any case
    if any(isinstance(value, _GENERATORS) for layer in layers for value in vars(layer).values()):
        return None
    buffers = [(buffer, buffer.clone()) for layer in layers[:1] for buffer in layer.buffers()]
    elsewhere = _elsewhere()
    try:
        with _Watch():
            y = function(x)
        if _elsewhere() == elsewhere:
            return y
    except _Drew:
        pass
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    return None


def _elsewhere() -> object:
    """Where the global generators of numpy and Python stand."""
    state: Any = np.random.get_state()  # noqa: NPY002, the old generator is what is asked about
    return state[1].tobytes(), state[2:], random.getstate()


def _is_known(layer: nn.Module) -> bool:
    return (
        type(layer).__module__.startswith(_KNOWN)
        and not isinstance(layer, _MAY_DRAW)
        and not layer._forward_pre_hooks
        and not layer._forward_hooks
    )
