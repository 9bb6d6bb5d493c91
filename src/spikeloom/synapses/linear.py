"""Linear layers whose cost is the number of active inputs.

y[r, o] = b[o] + sum over active i of x[r, i] w[o, i]
dw[o, i] = sum over r with i active of x[r, i] g[r, o]
"""

import numpy as np
import torch
from torch import Tensor

from spikeloom.compiler.cpu.threads import share
from spikeloom.synapses.active import Active, flat, kernels, lanes, padded, real, sums
from spikeloom.synapses.memory import workspace

BLOCK_VECTORS = 16
"""Of a block of output features: its sums stay in registers."""

CHUNK = 64
"""Inputs whose gradient is held before it is written."""

TILE_BYTES = 512 << 10
"""Of the weights that meet all rows at a time: they should stay in the second-level cache."""


def is_by_input(weight: Tensor) -> bool:
    """Whether `weight` `[features, inputs]` lies in memory as `[inputs, features]`."""
    return weight.t().is_contiguous() and not weight.is_contiguous()


def linear_forward(x: Tensor, active: Active, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The product of the rows of `x` `[R, I]`, whose lists are `active`, with `weight` `[O, I]`."""
    rows, inputs = x.shape
    features = weight.shape[0]
    kind, width = real(x.dtype), lanes(x.dtype)
    by_input = is_by_input(weight)
    stored = weight.detach().t() if by_input else weight.detach().contiguous()
    out = torch.empty(rows, features, dtype=x.dtype)
    shift = np.zeros(features, kind) if bias is None else flat(bias.detach().to(sums(x.dtype)))
    block = min(BLOCK_VECTORS * width, padded(features, x.dtype))
    lists = (active.start, active.index, active.values, active.weighted, kind(active.scale), shift)
    table = flat(stored)
    if by_input and features % width == 0 and active.count < 2 * inputs:

        def work(first: int, last: int) -> None:
            kernels("linear").linear_rows(
                first, last, flat(out), rows, features, table, *lists, block, np.empty(block, kind)
            )
    else:
        chunk = max(64, min(inputs, TILE_BYTES // (block * weight.element_size())))

        def work(first: int, last: int) -> None:
            kernels("linear").linear_forward(
                *(first, last, flat(out), rows, inputs, features, table, by_input, chunk, *lists),
                *(block, workspace("sums", rows * block, kind)),
                workspace("tile", chunk * block, table.dtype),
                np.empty(rows, np.int64),
            )

    share(work, -(-features // block), active.count * features)
    return out


def linear_weight(x: Tensor, active: Active, grad: Tensor, weight: Tensor) -> Tensor:
    """The gradient of `weight` `[O, I]`, in its memory order, given that of the output `[R, O]`."""
    rows, inputs = x.shape
    features = weight.shape[0]
    kind, width = real(x.dtype), lanes(x.dtype)
    begin = np.empty(inputs + 2, np.int64)
    row = np.empty(active.count, np.int32)
    row_values = np.empty(active.count if active.weighted else 0, kind)
    kernels("linear").by_feature(
        rows,
        inputs,
        active.start,
        active.index,
        active.values,
        active.weighted,
        begin,
        row,
        row_values,
    )
    by_input = is_by_input(weight)
    out = torch.empty_like(weight)
    if not by_input and not out.is_contiguous():
        out = torch.empty(weight.shape, dtype=weight.dtype)
    block = min(BLOCK_VECTORS * width, padded(features, x.dtype))
    chunk = min(inputs, CHUNK)
    grad = grad.contiguous()
    source = flat(grad)
    target = flat(out.t() if by_input else out)

    def work(first: int, last: int) -> None:
        kernels("linear").linear_weight(
            *(first, last, target, by_input, rows, inputs, features, source, kind(active.scale)),
            *(begin, row, row_values, active.weighted, block, chunk),
            *(
                workspace("gradient rows", rows * block, source.dtype),
                np.empty(chunk * block, kind),
            ),
            np.empty(chunk * block, target.dtype),
        )

    share(work, -(-features // block), active.count * features)
    return out
