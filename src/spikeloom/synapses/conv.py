"""Convolutions whose cost is the number of active inputs.

y[n, o, p] = b[o] + sum over active (c, q) under the kernel at p of  x[n, c, q] w[o, c, q - p]
dw[o, c, k] = sum over active (n, c, q) of  x[n, c, q] g[n, o, p],  p the place that meets q at k
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from spikeloom.compiler.cpu.threads import share
from spikeloom.synapses.active import Active, flat, kernels, lanes, padded, real, sums

TABLE_BYTES = 640 << 10
"""Of the table that a pass over the images reads: it should stay in the second-level cache."""

GRADIENT_BYTES = 384 << 10
"""Of the output gradient that a pass over the channels reads."""


class Geometry(NamedTuple):
    """A two-dimensional convolution."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def output(self, height: int, width: int) -> tuple[int, int]:
        sizes = [
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, pad, dilation in zip(
                (height, width), self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        ]
        return sizes[0], sizes[1]


class Table(NamedTuple):
    """The weights of a convolution by input: `[groups, blocks, taps * channels, block]`."""

    values: np.ndarray[Any, Any]
    block: int
    features: int


def conv_table(weight: Tensor, groups: int) -> Table:
    """`weight` `[features, channels / groups, kh, kw]` as the kernels read it."""
    features, channels, *kernel = weight.shape
    features //= groups
    rows = channels * kernel[0] * kernel[1]
    width = padded(features, weight.dtype)
    fitting = TABLE_BYTES // max(1, rows * weight.element_size())
    block = max(2 * lanes(weight.dtype), fitting // lanes(weight.dtype) * lanes(weight.dtype))
    blocks = -(-width // block)
    block = padded(-(-width // blocks), weight.dtype)
    by_input = weight.detach().unflatten(0, (groups, features)).permute(0, 3, 4, 2, 1)
    by_input = by_input.reshape(groups, rows, features)
    if blocks * block != features:
        by_input = torch.nn.functional.pad(by_input, (0, blocks * block - features))
    by_input = by_input.unflatten(2, (blocks, block)).transpose(1, 2).contiguous()
    return Table(flat(by_input), block, features)


def conv_forward(
    x: Tensor, active: Active, table: Table, bias: Tensor | None, geometry: Geometry, last: bool
) -> Tensor:
    """The convolution of `x` `[N, C, H, W]`, whose lists are `active`; `last`: the channel of the
    result is last in memory."""
    samples, channels, height, width = x.shape
    high, wide = geometry.output(height, width)
    features = geometry.groups * table.features
    layout = torch.channels_last if last else torch.contiguous_format
    out = torch.empty(samples, features, high, wide, dtype=x.dtype, memory_format=layout)
    kind = real(x.dtype)
    shift = np.empty(0, kind) if bias is None else flat(bias.detach().to(sums(x.dtype)))
    arguments = (
        flat(out.permute(0, 2, 3, 1) if last else out),
        *(last, height, width, high, wide),
        *(geometry.groups, channels // geometry.groups, table.features),
        *(*geometry.kernel, *geometry.stride, *geometry.padding, *geometry.dilation),
        *(table.values, table.block, active.start, active.ends, active.index, active.values),
        *(active.weighted, kind(active.scale)),
        shift,
    )

    def work(first: int, last: int) -> None:
        kernels().conv_forward(first, last, *arguments, np.empty(wide * table.block, kind))

    share(work, samples * high, active.count * features * 9)
    return out


def conv_weight(
    x: Tensor, active: Active, grad: Tensor, weight: Tensor, geometry: Geometry
) -> Tensor:
    """The gradient of `weight`, given that of the output, `[N, features, high, wide]`."""
    samples, channels, height, width = x.shape
    features, _, *kernel = weight.shape
    high, wide = grad.shape[2:]
    groups, taps, kind = geometry.groups, kernel[0] * kernel[1], real(x.dtype)
    per_group = channels // groups
    out_width = features // groups
    sums_width = padded(out_width, x.dtype)
    rows = grad.permute(0, 2, 3, 1).contiguous()
    if sums_width != out_width:  # the last row is read to the end of a vector
        longer = rows.new_zeros(rows.numel() + lanes(x.dtype))
        longer[: rows.numel()] = rows.view(-1)
        rows = longer
    pixels, out_pixels = height * width, high * wide
    handful = max(1, min(samples, 256 // pixels))
    to_output = _to_output(geometry, height, width, handful)
    fitting = GRADIENT_BYTES // (handful * out_pixels * rows.element_size())
    block = max(4 * lanes(x.dtype), fitting // lanes(x.dtype) * lanes(x.dtype))
    totals = np.zeros((channels, taps, sums_width), kind)
    arguments = (
        *(totals.reshape(-1), sums_width, samples, handful, height, width, out_pixels),
        *(groups, per_group, out_width, taps, to_output, flat(rows), block),
        *(active.start, active.ends, active.index, active.values, active.weighted),
    )

    def work(first: int, last: int) -> None:
        most = handful * pixels
        size = (last - first) * most
        kernels().conv_weight(
            first,
            last,
            *arguments,
            np.empty(last - first, np.int64),
            np.empty(size, np.int32),
            np.empty(size if active.weighted else 0, kind),
            np.empty(most + 1, np.int32),
            np.empty(most + 1 if active.weighted else 0, kind),
        )

    share(work, channels, active.count * features * 9)
    total = torch.from_numpy(totals)[..., :out_width]
    if active.scale != 1:
        total = total * active.scale
    total = total.reshape(groups, per_group, *kernel, out_width)
    total = total.permute(0, 4, 1, 2, 3).reshape(features, per_group, *kernel)
    return torch.empty_like(weight).copy_(total)


@cache
def _to_output(geometry: Geometry, height: int, width: int, images: int) -> np.ndarray[Any, Any]:
    """`[taps, images * pixels]`: the output place that each input place meets under each tap, or
    -1."""
    high, wide = geometry.output(height, width)
    places = np.full((*geometry.kernel, images, height, width), -1, np.int32)
    for a in range(geometry.kernel[0]):
        for b in range(geometry.kernel[1]):
            rows, row_ok = _meets(height, high, 0, a, geometry)
            columns, column_ok = _meets(width, wide, 1, b, geometry)
            ok = row_ok[:, None] & column_ok[None, :]
            place = rows[:, None] * wide + columns[None, :]
            for image in range(images):
                places[a, b, image] = np.where(ok, place + image * high * wide, -1)
    return places.reshape(-1)


def _meets(
    size: int, out_size: int, axis: int, tap: int, geometry: Geometry
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    offset = np.arange(size) + geometry.padding[axis] - tap * geometry.dilation[axis]
    place, rest = np.divmod(offset, geometry.stride[axis])
    return place, (rest == 0) & (place >= 0) & (place < out_size)
