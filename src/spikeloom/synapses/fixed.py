"""Layers whose weights no longer change: laid out once, for any number of calls without a graph.

Each call takes the cheaper of two ways: the sum of the rows of the active inputs, or torch's dense
product. What each costs is estimated from shapes and the number of active inputs alone.
"""

from functools import cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from spikeloom.compiler import cache as kernel_cache
from spikeloom.compiler.cpu.threads import share
from spikeloom.synapses import active
from spikeloom.synapses.conv import Geometry, conv_forward, conv_table
from spikeloom.synapses.linear import linear_forward
from spikeloom.synapses.switch import Decision, record, records, setting

PRODUCT, ADDITION, FROM_MEMORY, FETCHED, CALL = 0.02, 0.065, 0.1, 0.065, 15_000.0
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
        # by input: the features of one input lie side by side
        self.by_input = self.weight.t().contiguous().t()
        self.bias = None if layer.bias is None else layer.bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        if _has_kernel(x, self.weight) and x.dim() == 2 and x.numel():
            features, inputs = self.weight.shape
            rows = x.contiguous()
            counts = active.count(rows)
            fired = int(counts.sum())
            few = len(rows) <= FEW_ROWS
            addition = FROM_MEMORY if few else ADDITION
            dense = _cost(PRODUCT, x.numel() * features, self.weight.numel(), self.weight)
            sparse = _cost(addition, fired * features, 0, self.weight) + CALL
            if _pays("linear", self.parameter, x, fired, sparse, dense):
                lists = active.list_rows(rows, counts)
                if few and fired >= 2 * inputs and self.weight.dtype != torch.bfloat16:
                    return _walk(rows, lists, self.by_input, self.bias)
                weight = self.by_input if few else self.weight
                return linear_forward(rows, lists, weight, self.bias)
        return torch.ops.aten.linear.default(x, self.weight, self.bias)


_WALK = """
import numpy as np

from spikeloom.compiler.cpu.jit import driver
from spikeloom.compiler.cpu.rows import add_row

u8 = np.uint64


@driver
def walk(first, last, block, out, features, inputs, table, begin, row, values, weighted, scale):
    for part in range(first, last):
        column = part * block
        width = u8(min(block, features - column))
        for i in range(inputs):
            for j in range(begin[i], begin[i + 1]):
                value = values[j] if weighted else scale
                at = u8(row[j] * features + column)
                add_row(width, out, at, table, u8(i * features + column), value)
"""

BLOCK = 1024
"""Features of a thread's share: long stretches of a row of weights."""


@cache
def _walk_kernel() -> Any:
    return kernel_cache.load(_WALK).walk


def _walk(x: Tensor, lists: active.Active, by_input: Tensor, bias: Tensor | None) -> Tensor:
    """The product with every weight of an active input read once, for all rows that it is in."""
    (rows, inputs), features = x.shape, by_input.shape[0]
    kind = active.real(x.dtype)
    out = torch.zeros(rows, features, dtype=x.dtype)
    if bias is not None:
        out += bias
    begin, row = np.empty(inputs + 2, np.int64), np.empty(lists.count, np.int32)
    values = np.empty(lists.count if lists.weighted else 0, kind)
    active.kernels("linear").by_feature(
        rows, inputs, lists.start, lists.index, lists.values, lists.weighted, begin, row, values
    )
    flat, table = active.flat(out), active.flat(by_input.t())

    def work(first: int, last: int) -> None:
        _walk_kernel()(
            *(first, last, BLOCK, flat, features, inputs, table),
            *(begin, row, values, lists.weighted, kind(lists.scale)),
        )

    share(work, -(-features // BLOCK), lists.count * features)
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
        if _has_kernel(x, self.weight) and x.dim() == 4 and x.numel():
            last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
            x = x if last else x.contiguous()
            counts = active.count(x)
            fired = int(counts.sum())
            high, wide = geometry.output(x.shape[2], x.shape[3])
            met = geometry.kernel[0] * geometry.kernel[1] * high * wide / (x.shape[2] * x.shape[3])
            features = self.weight.shape[0] // geometry.groups
            dense = _cost(PRODUCT, x.numel() * met * features, self.weight.numel(), self.weight)
            sparse = _cost(ADDITION, fired * met * features, self.weight.numel(), self.weight)
            if _pays("conv", self.parameter, x, fired, sparse + CALL, dense):
                lists = active.list_images(x, counts, geometry.groups)
                return conv_forward(x, lists, self.table, self.bias, geometry, last)
        return torch.ops.aten.conv2d.default(
            x,
            self.weight,
            self.bias,
            geometry.stride,
            geometry.padding,
            geometry.dilation,
            geometry.groups,
        )


def _has_kernel(x: Tensor, weight: Tensor) -> bool:
    return (
        type(x) is Tensor
        and x.dtype == weight.dtype
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and setting.mode != "off"
    )


def _pays(kind: str, weight: Tensor, x: Tensor, fired: int, sparse: float, dense: float) -> bool:
    """Whether the sum over active inputs is taken, as `sl.sparse` says; told to `sl.explain`."""
    forced = setting.mode == "on"
    taken = forced or sparse < dense
    if records.get() is not None:
        word, why = "sparse" if taken else "dense", "switched on" if forced else "fixed weights"
        density = fired / x.numel()
        record(Decision(kind, id(weight), tuple(x.shape), x.dtype, density, word, "-", why))
    return taken


def _cost(per_operation: float, operations: float, weights: int, weight: Tensor) -> float:
    """Of so many operations, or of fetching so many weights, whichever takes longer."""
    size = weight.element_size()
    fetch = weights * size * FETCHED if weight.numel() * size > CACHE_BYTES else 0.0
    return max(operations * per_operation * size / 4, fetch)
