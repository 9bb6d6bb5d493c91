"""Convolutions whose cost is the number of active inputs.

y[n, o, p] = b[o] + sum over active (c, q) under the kernel at p of  x[n, c, q] w[o, c, q - p]
dw[o, c, k] = sum over active (n, c, q) of  x[n, c, q] g[n, o, p],  p the place that meets q at k
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spikeloom.compiler.cpu.threads import share
from spikeloom.synapses.active import Active, flat, kernels, lanes, padded, real, sums
from spikeloom.synapses.memory import Array, large, workspace

TABLE_BYTES = 640 << 10
"""Of the table that a pass over the images reads: it should stay in the second-level cache."""

GRADIENT_BYTES = 384 << 10
"""Of the output gradient that a pass over the channels reads."""


ZERO_VECTORS = 2.5
"""Vectors of zeros that are added in the time that looking up a row takes."""


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

    values: Array
    block: int
    features: int
    dtype: torch.dtype


def conv_table(weight: Tensor, groups: int, *, keep: bool = False) -> Table:
    """`weight` `[features, channels / groups, kh, kw]` as the kernels read it; good until this
    thread's next table unless it is to be kept."""
    features, channels, *kernel = weight.shape
    features //= groups
    rows = channels * kernel[0] * kernel[1]
    width = padded(features, weight.dtype)
    fitting = TABLE_BYTES // max(1, rows * weight.element_size())
    block = max(2 * lanes(weight.dtype), fitting // lanes(weight.dtype) * lanes(weight.dtype))
    blocks = -(-width // block)
    block = padded(-(-width // blocks), weight.dtype)
    size, kind = groups * blocks * rows * block, flat(weight[:0]).dtype
    table = large(size, kind) if keep else workspace("table", size, kind)
    by_input = torch.from_numpy(table).view(groups, blocks, *kernel, channels, block)
    if weight.dtype == torch.bfloat16:
        by_input = by_input.view(torch.bfloat16)
    given = weight.detach().unflatten(0, (groups, features)).permute(0, 3, 4, 2, 1)
    for number, part in enumerate(given.split(block, dim=-1)):
        by_input[:, number, ..., : part.shape[-1]] = part
        by_input[:, number, ..., part.shape[-1] :] = 0
    return Table(table, block, features, weight.dtype)


def conv_forward(
    shape: Sequence[int],
    active: Active,
    table: Table,
    bias: Tensor | None,
    geometry: Geometry,
    last: bool,
    slot: str = "",
    begin: Tensor | None = None,
) -> Tensor:
    """The convolution of images of `shape` `[N, C, H, W]`, whose lists are `active`; `last`: the
    channel of the result is last in memory. `slot`: the result is good until this thread's next
    with that name. `begin`: sums of N / k images, the channel last in memory, to which those of k
    images each are added."""
    samples, channels, height, width = shape
    dtype = table.dtype
    high, wide = geometry.output(height, width)
    features = geometry.groups * table.features
    kind = real(dtype)
    if slot:
        memory = workspace(slot, samples * features * high * wide, table.values.dtype)
        out = torch.from_numpy(memory).view(dtype)
        out = out.view(samples, high, wide, features).permute(0, 3, 1, 2)
    else:
        layout = torch.channels_last if last else torch.contiguous_format
        out = torch.empty(samples, features, high, wide, dtype=dtype, memory_format=layout)
    shift = np.empty(0, kind) if bias is None else flat(bias.detach().to(sums(dtype)))
    arguments = (
        flat(out.permute(0, 2, 3, 1) if last else out),
        *(last, height, width, high, wide),
        *(geometry.groups, channels // geometry.groups, table.features),
        *(*geometry.kernel, *geometry.stride, *geometry.padding, *geometry.dilation),
        *(table.values, table.block, active.start, active.ends, active.index, active.values),
        *(active.weighted, kind(active.scale)),
        shift,
        np.empty(0, kind) if begin is None else flat(begin.permute(0, 2, 3, 1)),
        1 if begin is None else samples // len(begin),
    )

    def work(first: int, last: int) -> None:
        kernels("conv").conv_forward(first, last, *arguments, np.empty(wide * table.block, kind))

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
    pixels, out_pixels = height * width, high * wide
    handful = max(1, min(samples, 256 // pixels))
    meetings = _meetings(geometry, height, width, handful, sums_width // lanes(x.dtype))
    table_rows = len(meetings.table_rows)
    fitting = GRADIENT_BYTES // (table_rows * rows.element_size())
    block = max(4 * lanes(x.dtype), fitting // lanes(x.dtype) * lanes(x.dtype))
    stored = flat(rows)
    totals = np.zeros((channels, taps, sums_width), kind)
    arguments = (
        *(totals.reshape(-1), sums_width, samples, handful, pixels, out_pixels, width),
        *(groups, per_group, out_width, taps, *meetings, stored, block),
        *(active.start, active.ends, active.index, active.values, active.weighted),
    )

    def work(first: int, last: int) -> None:
        most = handful * pixels
        size = (last - first) * most
        kernels("conv").conv_weight(
            first,
            last,
            *arguments,
            workspace("gradient rows", table_rows * min(block, sums_width), stored.dtype),
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


class Meetings(NamedTuple):
    """Which row of the kernel's table an input place meets under each tap: see `conv_weight`."""

    to_table: Array
    table_rows: Array
    shift: Array
    to_output: Array


@cache
def _meetings(geometry: Geometry, height: int, width: int, images: int, vectors: int) -> Meetings:
    """For a handful of `images`; rows of the table have so many `vectors`.

    With a border of zeros around the output's gradient every tap is a shift, and nothing has to be
    looked up. That is taken where the zeros that are added cost less than looking up.
    """
    high, wide = geometry.output(height, width)
    kernel, dilation = geometry.kernel, geometry.dilation
    to_output = np.full((*kernel, height, width), -1, np.int32)
    for a in range(kernel[0]):
        for b in range(kernel[1]):
            rows, row_ok = _meets(height, high, 0, a, geometry)
            columns, column_ok = _meets(width, wide, 1, b, geometry)
            ok = row_ok[:, None] & column_ok[None, :]
            to_output[a, b] = np.where(ok, rows[:, None] * wide + columns[None, :], -1)
    none = np.empty(0, np.int32)
    zeros = float((to_output < 0).mean())
    if geometry.stride != (1, 1) or zeros * vectors > ZERO_VECTORS:
        to_output = _for_images(to_output.reshape(-1, 1, height * width), images, high * wide)
        places = np.arange(images * height * width, dtype=np.int32)
        return Meetings(places, np.arange(images * high * wide, dtype=np.int32), none, to_output)
    reach = [(size - 1) * gap for size, gap in zip(kernel, dilation, strict=True)]
    tall, broad = height + reach[0], width + reach[1]
    rows = np.arange(tall) + geometry.padding[0] - reach[0]
    columns = np.arange(broad) + geometry.padding[1] - reach[1]
    ok = ((rows >= 0) & (rows < high))[:, None] & ((columns >= 0) & (columns < wide))[None, :]
    source = np.where(ok, rows[:, None] * wide + columns[None, :], -1).astype(np.int32)
    to_table = (np.arange(height)[:, None] * broad + np.arange(width)).astype(np.int32)
    down = reach[0] - np.arange(kernel[0]) * dilation[0]
    right = reach[1] - np.arange(kernel[1]) * dilation[1]
    shift = (down[:, None] * broad + right).astype(np.int32).reshape(-1)
    return Meetings(
        _for_images(to_table.reshape(1, 1, -1), images, tall * broad),
        _for_images(source.reshape(1, 1, -1), images, high * wide),
        shift,
        none,
    )


def _for_images(places: Array, images: int, size: int) -> Array:
    """`places` `[n, 1, p]` of one image for several, each `size` further on: `[n, images, p]`."""
    offsets = np.arange(images, dtype=np.int32)[:, None] * size
    return np.where(places < 0, -1, places + offsets).astype(np.int32).reshape(-1)


def _meets(
    size: int, out_size: int, axis: int, tap: int, geometry: Geometry
) -> tuple[Array, Array]:
    offset = np.arange(size) + geometry.padding[axis] - tap * geometry.dilation[axis]
    place, rest = np.divmod(offset, geometry.stride[axis])
    return place, (rest == 0) & (place >= 0) & (place < out_size)
