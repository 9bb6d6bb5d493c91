"""How tensors lie in memory, and how coefs lie over them."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spikeloom.compiler.front.step import Signature

Kind = Literal["scalar", "channel", "neuron"]
Nest = Literal["row", "vec"]


def coef_kind(name: str, shape: tuple[int, ...], x_shape: tuple[int, ...], per_time: bool) -> Kind:
    """Which neurons share a value of the coef: all of them, those of a channel, or none.

    `x_shape` is `[T, B, C, ...]`. After the time axis (only where `per_time`) a coef has one
    element, or the shape `[C]`, or `[C, ...]` like one sample. Anything else is a ValueError that
    lists these.
    """
    rest = tuple(shape)
    if per_time:
        if not rest or rest[0] != x_shape[0]:
            raise ValueError(
                f"coef {name!r} of shape {list(shape)} has a value per time step, but the input "
                f"{list(x_shape)} has T={x_shape[0]}: the first axis must be T"
            )
        rest = rest[1:]
    sample = tuple(x_shape[2:])
    if all(size == 1 for size in rest):
        return "scalar"
    if sample and rest == sample[:1]:
        return "channel"
    if rest == sample:
        return "neuron"
    time = "[T] + " if per_time else ""
    raise ValueError(
        f"coef {name!r} of shape {list(shape)} does not fit the input {list(x_shape)}: "
        f"expected {time}[] (one value), {list(sample[:1])} (per channel) or {list(sample)} "
        "(per neuron)"
    )


@dataclass(frozen=True)
class Layout:
    """The memory order of one time step `[B, C, ...]`: dense, in any order of its axes.

    `strides` are those of one time step, `order` its axes from outermost to innermost.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @staticmethod
    def of(shape: tuple[int, ...], strides: tuple[int, ...]) -> "Layout | None":
        """The layout of a tensor without gaps or overlaps; None for any other."""
        order = sorted(range(len(shape)), key=lambda d: (-strides[d], d))
        # an axis of one element has no say in where the others lie
        order.sort(key=lambda d: shape[d] == 1)
        dense = [0] * len(shape)
        expected = 1
        for axis in reversed(order):
            if shape[axis] != 1 and strides[axis] != expected:
                return None
            dense[axis] = expected
            expected *= shape[axis]
        return Layout(shape, tuple(dense), tuple(order))

    @staticmethod
    def contiguous(shape: tuple[int, ...]) -> "Layout":
        strides = [1] * len(shape)
        for axis in range(len(shape) - 2, -1, -1):
            strides[axis] = strides[axis + 1] * shape[axis + 1]
        return Layout(shape, tuple(strides), tuple(range(len(shape))))

    def fits_strides(self, strides: tuple[int, ...]) -> bool:
        """Whether time steps with these strides lie in this order."""
        for size, stride, expected in zip(self.shape, strides, self.strides, strict=True):
            if size != 1 and stride != expected:
                return False
        return True

    def bring(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """`tensor`, `[B, ...]` or `[T, B, ...]`, in this order and dtype, to read from: its time
        steps may lie far apart, or be one and the same. Copied only if it is not so.
        """
        strides = tensor.stride()
        if tensor.dtype == dtype and strides == self.strides:
            return tensor
        per_time = tensor.dim() > len(self.shape)
        apart = not per_time or tensor.shape[0] == 1 or strides[0] >= self.size or strides[0] == 0
        if tensor.dtype == dtype and apart and self.fits_strides(strides[per_time:]):
            return tensor
        shape, strides = self.shape, self.strides
        if per_time:
            shape, strides = (tensor.shape[0], *shape), (self.size, *strides)
        return torch.empty_strided(shape, strides, dtype=dtype, device=tensor.device).copy_(tensor)


@dataclass(frozen=True)
class Plan:
    """How a kernel walks the neurons of one time step, `[rows][inner]` or `[rows][C][L]`, and where
    coefs lie.

    Row nest: rows of `length` elements with one channel each; `channels` repeat. Vec nest: `rows`
    rows of `inner` elements that have coefs of their own.
    """

    layout: Layout
    nest: Nest
    kinds: tuple[Kind, ...]
    per_time: tuple[bool, ...]
    channels: int = 1
    length: int = 1

    @property
    def inner(self) -> int:
        """Elements of a row in the vec nest."""
        if "neuron" in self.kinds:
            return math.prod(self.layout.shape[1:])
        return self.channels * self.length

    @property
    def rows(self) -> int:
        return self.layout.size // max(1, self.inner)

    def is_vector(self, index: int) -> bool:
        return self.nest == "vec" and self.kinds[index] != "scalar"

    def width(self, index: int) -> int:
        """Elements of a packed coef at one time step."""
        if self.kinds[index] == "scalar":
            return 1
        return self.channels if self.nest == "row" else self.inner

    def pack(self, index: int, coef: Tensor) -> Tensor:
        """The coef as the kernel reads it: flat, `[T or 1] * [1, C, or inner]`."""
        times = coef.shape[0] if self.per_time[index] else 1
        kind = self.kinds[index]
        if kind == "scalar":
            return coef.reshape(-1).contiguous()
        if kind == "channel":
            flat = coef.reshape(times, self.channels)
            if self.nest == "vec":
                flat = self._over_inner(flat)
            return flat.reshape(-1).contiguous()
        sample = coef.reshape(times, *self.layout.shape[1:])
        return sample.permute(self._sample_order()).reshape(-1).contiguous()

    def unpack(self, index: int, grad: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The gradient `[T or 1, width]` of a packed coef, in the shape of the coef."""
        kind = self.kinds[index]
        if kind == "channel" and self.nest == "vec":
            if "neuron" in self.kinds:
                grad = self._sample(grad).flatten(2).sum(2)
            else:
                grad = grad.reshape(grad.shape[0], self.channels, self.length).sum(2)
        elif kind == "neuron":
            grad = self._sample(grad)
        return grad.reshape(shape)

    def _sample_order(self) -> tuple[int, ...]:
        """Axes of `[T, C, ...]` in the memory order of one sample."""
        return (0, *(axis for axis in self.layout.order if axis != 0))

    def _sample(self, packed: Tensor) -> Tensor:
        """`[T, inner]` in memory order, as `[T, C, ...]`."""
        order = self._sample_order()
        sizes = [self.layout.shape[axis] for axis in order[1:]]
        inverse = sorted(range(len(order)), key=lambda i: order[i])
        return packed.reshape(packed.shape[0], *sizes).permute(inverse)

    def _over_inner(self, channels: Tensor) -> Tensor:
        """`[T, C]` repeated over the elements of a row, `[T, inner]`."""
        if "neuron" in self.kinds:
            view = channels.reshape(channels.shape[0], -1, *[1] * (len(self.layout.shape) - 2))
            whole = view.expand(channels.shape[0], *self.layout.shape[1:])
            return whole.permute(self._sample_order()).reshape(channels.shape[0], -1)
        return channels.repeat_interleave(self.length, dim=1)


SHORT_ROW = 32
"""Rows shorter than this have their coefs expanded along the row (measured:
docs/performance.md).
"""


def plan(layout: Layout, kinds: tuple[Kind, ...], per_time: tuple[bool, ...]) -> Plan | None:
    """How to walk a time step in `layout` with coefs of these kinds; None if it must be copied
    first.
    """
    if "neuron" in kinds:
        first = next((axis for axis in layout.order if layout.shape[axis] != 1), 0)
        if layout.shape[0] != 1 and first != 0:
            return None
        return Plan(layout, "vec", kinds, per_time, layout.shape[1])
    if "channel" in kinds:
        position = layout.order.index(1)
        length = math.prod(layout.shape[axis] for axis in layout.order[position + 1 :])
        nest = "row" if length >= SHORT_ROW else "vec"
        return Plan(layout, nest, kinds, per_time, layout.shape[1], length)
    return Plan(layout, "row", kinds, per_time, 1, max(1, layout.size))


def find_plan(
    signature: Signature,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    time_steps: int,
    coef_shapes: tuple[tuple[int, ...], ...],
) -> Plan:
    """The plan for time steps of `shape` `[B, C, ...]` that lie in memory by `strides`.

    Results are written in the order of the input if it is dense and its coefs allow it, else
    contiguously. Raises ValueError for a coef whose shape does not fit.
    """
    per_time = tuple(name in signature.time_coefs for name in signature.coefs)
    kinds: tuple[Kind, ...] = tuple(
        coef_kind(name, coef, (time_steps, *shape), timed)
        for name, coef, timed in zip(signature.coefs, coef_shapes, per_time, strict=True)
    )
    layout = Layout.of(shape, strides)
    chosen = None if layout is None else plan(layout, kinds, per_time)
    if chosen is None:
        chosen = plan(Layout.contiguous(shape), kinds, per_time)
    assert chosen is not None
    return chosen
