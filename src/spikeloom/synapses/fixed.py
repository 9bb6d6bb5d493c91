"""Layers whose weights no longer change: laid out once, for any number of calls without a graph.

Each call takes the cheaper of two ways: the sum of the rows of the active inputs, or torch's dense
product. What each costs is estimated from shapes and the number of active inputs alone.
"""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from spikeloom.compiler.cpu.threads import share
from spikeloom.synapses import active
from spikeloom.synapses.active import Active
from spikeloom.synapses.conv import Geometry, conv_forward, conv_table
from spikeloom.synapses.fired import Fired
from spikeloom.synapses.linear import (
    BY_BLOCK,
    by_feature,
    linear_forward,
    linear_sums,
    linear_table,
)
from spikeloom.synapses.memory import Array, large
from spikeloom.synapses.switch import Decision, records, setting

PRODUCT, ADDITION, FROM_MEMORY, FETCHED, CALL = 0.02, 0.05, 0.1, 0.065, 15_000.0
"""Nanoseconds on one thread, float32: of a product and its sum in a dense layer; of one in a sum of
rows, in cache and from memory; of a byte of weights from memory; of a sparse call before it works
(measured on layers of 64 to 6272 features)."""

FEW_ROWS = 128
"""Up to so many samples and steps a linear layer walks its weights as they lie in memory, once."""

CACHE_BYTES = 4 << 20
"""Weights larger than this come from memory in every call."""


def fixed(layer: nn.Module) -> "FixedConv2d | FixedLinear | None":
    """What `layer` does, for calls without a graph while its weights stay as they are now; None
    where there is no kernel for its kind, device or dtype, or where hooks watch it."""
    weight = layer.weight if isinstance(layer, (nn.Conv2d, nn.Linear)) else None
    if (
        weight is None
        or weight.device.type != "cpu"
        or weight.dtype not in active.DTYPES
        or layer._forward_hooks
        or layer._forward_pre_hooks
    ):
        return None
    if isinstance(layer, nn.Linear):
        return FixedLinear(layer) if type(layer).forward is nn.Linear.forward else None
    convolution = cast(nn.Conv2d, layer)
    plain = convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
    return FixedConv2d(convolution) if plain and type(layer).forward is nn.Conv2d.forward else None


class FixedLinear:
    """`nn.Linear` on `[N, inputs]`."""

    def __init__(self, layer: nn.Linear) -> None:
        self.parameter, self.weight = layer.weight, layer.weight.detach()
        self.bias = None if layer.bias is None else layer.bias.detach()
        self._most: dict[int, int] = {}
        self._by_input: dict[int, Tensor] = {}
        self._by_block: dict[int, Array] = {}

    def by_input(self, pixels: int = 1) -> Tensor:
        """The weights, `[inputs, features]` in memory: the features of one input lie side by side.
        Inputs `[C, pixels]` are taken pixel by pixel."""
        if pixels not in self._by_input:
            memory = torch.from_numpy(
                large(self.weight.numel(), active.flat(self.weight[:0]).dtype)
            )
            memory = memory.view(self.weight.dtype).view(self.weight.shape[::-1])
            self._by_input[pixels] = memory.copy_(self._turned(pixels))
        return self._by_input[pixels]

    def by_block(self, pixels: int = 1) -> Array:
        """The same as a table for many rows."""
        if pixels not in self._by_block:
            self._by_block[pixels] = linear_table(self._turned(pixels))
        return self._by_block[pixels]

    def _turned(self, pixels: int) -> Tensor:
        features, inputs = self.weight.shape
        by_pixel = self.weight.reshape(features, inputs // pixels, pixels).permute(2, 1, 0)
        return by_pixel.reshape(inputs, features).contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        if has_kernel(x, self.weight) and x.dim() == 2 and x.numel():
            rows = x.contiguous()
            counts = active.count(rows)
            if self.pays(tuple(x.shape), int(counts.sum())):
                return self.sums(len(rows), active.list_rows(rows, counts))
        return torch.ops.aten.linear.default(x, self.weight, self.bias)

    def of_fired(self, fired: Fired) -> Tensor | None:
        """`[B * T, features]` of spikes that are flattened; None where the dense product is
        cheaper."""
        rows = fired.time_steps * fired.batch
        features, inputs = self.weight.shape
        if fired.size[0] * fired.pixels != inputs:
            return None
        if not self.pays((rows, inputs), fired.count, fired.listed):
            return None
        lists, *constant = fired.rows()
        y = self.sums(rows, lists, fired.pixels)
        for each in constant:
            once = self.sums(fired.batch, each, fired.pixels, False)
            y.view(fired.batch, fired.time_steps, features).add_(once.unsqueeze(1))
        return y

    def pays(self, shape: tuple[int, ...], fired: int, listed: int | None = None) -> bool:
        rows, features = shape[0], self.weight.shape[0]
        addition = FROM_MEMORY if rows <= FEW_ROWS else ADDITION
        dense = _cost(PRODUCT, shape[0] * shape[1] * features, self.weight)
        size = self.weight.element_size() / 4
        sparse = addition * size * (fired if listed is None else listed) * features + CALL
        return pays("linear", self.parameter, shape, fired, sparse, dense)

    def most(self, rows: int) -> int:
        """How many inputs may be active in each of `rows` rows before the dense product is
        cheaper."""
        features, inputs = self.weight.shape
        if setting.mode == "on":
            return inputs
        if rows in self._most:
            return self._most[rows]
        dense = _cost(PRODUCT, rows * inputs * features, self.weight) + CALL
        size = self.weight.element_size() / 4
        self._most[rows] = min(inputs, int(dense / (FROM_MEMORY * size * rows * features)))
        return self._most[rows]

    def sums(self, rows: int, lists: Active, pixels: int = 1, biased: bool = True) -> Tensor:
        bias = self.bias if biased else None
        if rows > FEW_ROWS:
            return linear_sums(rows, lists, self.by_block(pixels), BY_BLOCK, self.weight, bias)
        by_input = self.by_input(pixels)
        if rows > 1 and self.weight.dtype != torch.bfloat16:
            return _walk(rows, lists, by_input, bias)
        return linear_forward(rows, lists, by_input.t(), bias)


BLOCK = 1024
"""Features of a thread's share: long stretches of a row of weights."""


def _walk(rows: int, lists: Active, by_input: Tensor, bias: Tensor | None) -> Tensor:
    """The product with every weight of an active input read once, for all rows that it is in."""
    inputs, features = by_input.shape
    kind = active.real(by_input.dtype)
    out = torch.zeros(rows, features, dtype=by_input.dtype)
    if bias is not None:
        out += bias
    turned = by_feature(rows, inputs, lists, kind)
    flat, table = active.flat(out), active.flat(by_input)
    arguments = (
        *(BLOCK, flat, features, inputs, table, *turned),
        *(lists.weighted, kind(lists.scale), 64 // table.itemsize),
    )
    share(active.kernels("linear").walk, -(-features // BLOCK), lists.count * features, *arguments)
    return out


class FixedConv2d:
    """`nn.Conv2d` on `[N, C, H, W]`."""

    def __init__(self, layer: nn.Conv2d) -> None:
        self.parameter, self.weight = layer.weight, layer.weight.detach()
        self.bias = None if layer.bias is None else layer.bias.detach()
        sizes: Any = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        kernel, stride, padding, dilation = ((int(a), int(b)) for a, b in sizes)
        self.geometry = Geometry(kernel, stride, padding, dilation, layer.groups)
        self.table = conv_table(self.weight, layer.groups, keep=True)

    def __call__(self, x: Tensor) -> Tensor:
        geometry = self.geometry
        if has_kernel(x, self.weight) and x.dim() == 4 and x.numel():
            last = active.is_channel_last(x)
            x = x if last else x.contiguous()
            counts = active.count(x)
            if self.pays(tuple(x.shape), int(counts.sum())):
                lists = active.list_images(x, counts, geometry.groups)
                return self.sums(tuple(x.shape), lists, last)
        return torch.ops.aten.conv2d.default(x, self.weight, self.bias, *geometry[1:])

    def pays(self, shape: tuple[int, ...], fired: int, listed: int | None = None) -> bool:
        samples, channels, height, width = shape
        high, wide = self.geometry.output(height, width)
        met = self.geometry.kernel[0] * self.geometry.kernel[1] * high * wide / (height * width)
        features = self.weight.shape[0] // self.geometry.groups
        elements = samples * channels * height * width
        dense = _cost(PRODUCT, elements * met * features, self.weight)
        listed = fired if listed is None else listed
        sparse = _cost(ADDITION, listed * met * features, self.weight)
        return pays("conv", self.parameter, shape, fired, sparse + CALL, dense)

    def sums(self, shape: tuple[int, ...], lists: Active, last: bool) -> Tensor:
        """The sums over the lists of images of `shape`: see `conv_forward`."""
        return conv_forward(shape, lists, self.table, self.bias, self.geometry, last)

    def of_fired(self, fired: Fired, slot: str = "") -> Tensor:
        """`[T, B, features, high, wide]` of spikes: see `conv_forward`."""
        steps, batch = fired.time_steps, fired.batch
        begin = None
        if fired.constant is not None:
            shape, unbiased = (batch, *fired.size), (self.table, None, self.geometry, True)
            begin = conv_forward(shape, fired.constant, *unbiased, "constant current")
        shape, biased = (steps * batch, *fired.size), (self.table, self.bias, self.geometry, True)
        y = conv_forward(shape, fired.images, *biased, slot, begin)
        return y.unflatten(0, (batch, steps)).transpose(0, 1)


def has_kernel(x: Tensor, weight: Tensor) -> bool:
    return (
        type(x) is Tensor
        and x.dtype == weight.dtype
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and setting.mode != "off"
    )


def pays(
    kind: str, weight: Tensor, shape: tuple[int, ...], fired: int, sparse: float, dense: float
) -> bool:
    """Whether the sum over active inputs is taken, as `sl.sparse` says; told to `sl.explain`."""
    forced = setting.mode == "on"
    is_sparse = forced or sparse < dense
    collected = records.get()
    if collected is not None:
        word, why = "sparse" if is_sparse else "dense", "switched on" if forced else "fixed weights"
        density = float(fired / np.prod(shape))
        collected.append(Decision(kind, id(weight), shape, density, word, "-", why))
    return is_sparse


def _cost(per_operation: float, operations: float, weight: Tensor) -> float:
    """Of so many operations, or of fetching all weights, whichever takes longer."""
    size = weight.element_size()
    fetch = weight.numel() * size * FETCHED if weight.numel() * size > CACHE_BYTES else 0.0
    return max(operations * per_operation * size / 4, fetch)
