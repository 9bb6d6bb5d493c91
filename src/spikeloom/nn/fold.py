"""Fold time into the batch, so that an ordinary layer sees all time steps at once.

    [T, B, ...]  ->  [T*B, ...]  -> layer ->  [T*B, ...]  ->  [T, B, ...]

A layer that treats samples independently (convolution, linear map, pooling) gives the same numbers
on `[T*B, ...]` as when it is called T times. A current that does not change with time
(`image.expand(T, ...)`, stride 0 in time) goes through the layer once, and the result is expanded
again: T times less work, and no copies. (One that draws random numbers does so at each step.)
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from spikeloom.compiler.constant import repeated_step
from spikeloom.errors import no_tensor
from spikeloom.nn.randomness import if_settled
from spikeloom.synapses.interception import intercepted


def is_constant(x: Tensor) -> bool:
    """Whether `x` `[T, ...]` is one time step seen T times (stride 0 in time)."""
    return x.dim() > 0 and x.shape[0] > 1 and x.stride(0) == 0


def per_step(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply `function`, `[N, ...]` -> `[N, ...]`, to every time step of `x` `[T, B, ...]`.

    A constant `x` is computed once, unless `function` draws random numbers (rate coding, a plain
    `nn.Dropout`): these are drawn anew at each step.
    """
    if not isinstance(x, Tensor):
        raise no_tensor("the network", x)
    if x.dim() < 2:
        raise ValueError(
            f"input of shape {list(x.shape)}: expected [T, B, ...], time first; "
            "for images use x.expand(T, *x.shape)"
        )
    time, batch = x.shape[:2]
    if time > 1 and x.stride(0) == 0:
        once = if_settled(function, repeated_step(x))
        if once is not None:
            _check_samples(function, once, batch)
            return once.expand(time, *once.shape)
    with intercepted():
        y = function(x.flatten(0, 1))
    if type(y) is not Tensor or y.dim() == 0 or y.shape[0] != time * batch:
        _check_samples(function, y, time * batch)
    return y.unflatten(0, (time, batch))


def is_time_aware(module: nn.Module) -> bool:
    """Whether `module` takes the whole `[T, B, ...]`: it says so with an attribute `time_first =
    True`."""
    return bool(getattr(module, "time_first", False))


class Steps(nn.Module):
    """Apply `module`, written for `[N, ...]`, to every time step of `[T, B, ...]` (see `steps`)."""

    time_first = True

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        check_per_step(module)
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        check_axes(self.module, x)
        return per_step(self.module, x)


def steps(module: nn.Module) -> Steps:
    """Make a layer for `[N, ...]` one for `[T, B, ...]`, for use outside `Sequential`.

    >>> conv = steps(torch.nn.Conv2d(1, 8, 3))
    >>> conv(torch.zeros(4, 2, 1, 28, 28)).shape
    torch.Size([4, 2, 8, 26, 26])
    """
    return Steps(module)


def check_per_step(module: nn.Module) -> None:
    """Refuse a per-step layer that hides a time-aware one: folded, it would take samples for time
    steps."""
    for name, child in module.named_modules():
        if is_time_aware(child):
            raise TypeError(
                f"{type(child).__name__} at '{name}' inside {type(module).__name__} needs the time "
                "axis, which is folded away there: use spikeloom.nn.Sequential, or set "
                f"time_first = True on {type(module).__name__} and fold inside"
            )


def check_axes(module: nn.Module, x: Tensor) -> None:
    """Refuses images without a time axis ahead of a convolution: folded, samples would be channels,
    and one sample of one channel would pass."""
    if not isinstance(x, Tensor):
        raise no_tensor("the network", x)
    if isinstance(module, _ConvNd):
        axes = len(module.kernel_size)
        if x.dim() < axes + 3:
            raise ValueError(
                f"{type(module).__name__} got an input of shape {list(x.shape)}: expected "
                f"[T, B, C{', D, H, W'[-3 * axes :]}], time first; for samples without time use "
                "x.expand(T, *x.shape)"
            )


def _check_samples(function: Callable[[Tensor], Tensor], y: Tensor, samples: int) -> None:
    if not isinstance(y, torch.Tensor) or y.dim() == 0 or y.shape[0] != samples:
        raise wrong_answer(function, y, samples)


def wrong_answer(function: Callable[[Tensor], object], y: object, samples: int) -> ValueError:
    """The error for an answer that is no `[samples, ...]`."""
    got = list(y.shape) if isinstance(y, torch.Tensor) else f"a {type(y).__name__}"
    name = type(function).__name__ if isinstance(function, nn.Module) else repr(function)
    return ValueError(
        f"{name} answered {got} to {samples} samples: a per-step layer must answer one tensor and "
        "keep the first axis (Flatten: start_dim=1)"
    )
