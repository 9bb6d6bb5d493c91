"""Linear layers whose cost is the number of active inputs.

y[r, o] = b[o] + sum over active i of x[r, i] w[o, i]
dw[o, i] = sum over r with i active of x[r, i] g[r, o]
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeloom.compiler.cpu.threads import share
from spikeloom.synapses.active import Active, flat, kernels, lanes, padded, real, sums
from spikeloom.synapses.memory import Array, workspace

BY_FEATURE, BY_INPUT, BY_BLOCK = 0, 1, 2
"""Orders of weights: see `linear_kernels.linear_forward`."""

BLOCK_VECTORS = 16
"""Of a block of output features: its sums stay in registers."""

CHUNK = 64
"""Inputs whose gradient is held before it is written."""

TILE_BYTES = 512 << 10
"""Of the weights that meet all rows at a time: they should stay in the second-level cache."""


def is_by_input(weight: Tensor) -> bool:
    """Whether `weight` `[features, inputs]` lies in memory as `[inputs, features]`."""
    return weight.t().is_contiguous() and not weight.is_contiguous()


def linear_forward(rows: int, active: Active, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The product of `rows` whose lists are `active` with `weight` `[O, I]`."""
    by_input = is_by_input(weight)
    table = flat(weight.detach().t() if by_input else weight.detach().contiguous())
    order = BY_INPUT if by_input else BY_FEATURE
    return linear_sums(rows, active, table, order, weight, bias)


def linear_table(by_input: Tensor) -> Array:
    """Weights `[inputs, features]` as `linear_sums` reads them in the order `BY_BLOCK`."""
    inputs, features = by_input.shape
    block = _block(features, by_input.dtype)
    table = np.zeros((-(-features // block), inputs, block), flat(by_input[:0]).dtype)
    given = flat(by_input).reshape(inputs, features)
    for part in range(len(table)):
        columns = given[:, part * block : (part + 1) * block]
        table[part, :, : columns.shape[1]] = columns
    return table.reshape(-1)


def _block(features: int, dtype: torch.dtype) -> int:
    return min(BLOCK_VECTORS * lanes(dtype), padded(features, dtype))


def linear_sums(
    rows: int, active: Active, table: Array, order: int, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """`linear_forward` for a `weight` that lies in `table`, in this order."""
    (features, inputs), dtype = weight.shape, weight.dtype
    kind = real(dtype)
    out = torch.empty(rows, features, dtype=dtype)
    shift = np.zeros(features, kind) if bias is None else flat(bias.detach().to(sums(dtype)))
    block = _block(features, dtype)
    lists = (active.start, active.index, active.values, active.weighted, kind(active.scale), shift)
    if order == BY_INPUT and features % lanes(dtype) == 0 and active.count < 2 * inputs:

        def work(first: int, last: int) -> None:
            kernels("linear").linear_rows(
                first, last, flat(out), rows, features, table, *lists, block, np.empty(block, kind)
            )
    else:
        chunk = max(64, min(inputs, TILE_BYTES // (block * table.itemsize)))

        def work(first: int, last: int) -> None:
            kernels("linear").linear_forward(
                *(first, last, flat(out), rows, inputs, features, table, order, chunk, *lists),
                *(block, workspace("sums", rows * block, kind)),
                workspace("tile", chunk * block, table.dtype),
                np.empty(rows, np.int64),
            )

    share(work, -(-features // block), active.count * features)
    return out


def by_feature(rows: int, inputs: int, active: Active, kind: Any) -> tuple[Any, ...]:
    """The lists of rows turned: see `linear_kernels.by_feature`."""
    begin, row = np.empty(inputs + 2, np.int64), np.empty(active.count, np.int32)
    values = np.empty(active.count if active.weighted else 0, kind)
    lists = active.start, active.index, active.values, active.weighted
    kernels("linear").by_feature(rows, inputs, *lists, begin, row, values)
    return begin, row, values


def linear_weight(x: Tensor, active: Active, grad: Tensor, weight: Tensor) -> Tensor:
    """The gradient of `weight` `[O, I]`, in its memory order, given that of the output `[R, O]`."""
    rows, inputs = x.shape
    features = weight.shape[0]
    kind = real(x.dtype)
    turned = by_feature(rows, inputs, active, kind)
    by_input = is_by_input(weight)
    out = torch.empty_like(weight)
    if not by_input and not out.is_contiguous():
        out = torch.empty(weight.shape, dtype=weight.dtype)
    block = _block(features, x.dtype)
    chunk = min(inputs, CHUNK)
    grad = grad.contiguous()
    source = flat(grad)
    target = flat(out.t() if by_input else out)

    def work(first: int, last: int) -> None:
        kernels("linear").linear_weight(
            *(first, last, target, by_input, rows, inputs, features, source, kind(active.scale)),
            *(*turned, active.weighted, block, chunk),
            *(
                workspace("gradient rows", rows * block, source.dtype),
                np.empty(chunk * block, kind),
            ),
            np.empty(chunk * block, target.dtype),
        )

    share(work, -(-features // block), active.count * features)
    return out
