"""The kernels of linear layers, on the lists of `list_kernels`: sums of rows of a tile of the
weights, or of the output's gradient, that is copied to where it can be read fast."""

# pyright: reportCallIssue=false
import numpy as np

from spikeloom.compiler.cpu.jit import driver
from spikeloom.compiler.cpu.rows import add_row, add_rows, add_weighted_rows
from spikeloom.synapses.vectors import fetch, store, turn

BY_FEATURE, BY_INPUT, BY_BLOCK = 0, 1, 2
u8 = np.uint64


@driver
def linear_forward(
    first, last, out, rows, inputs, features, weight, order, chunk, start, index, values,
    weighted, scale, bias, block, sums, tile, cursor,
):  # fmt: skip
    """Blocks `first` to `last` of `block` output features, for all rows.

    `weight` is `[features, inputs]`, `[inputs, features]`, or `[blocks, inputs, block]`, as `order`
    says; a tile of `chunk` inputs by `block` features is brought into the cache and meets all rows
    there.
    """
    for part in range(first, last):
        column = part * block
        count = min(block, features - column)
        for i in range(rows * block):
            sums[i] = 0
        for r in range(rows):
            cursor[r] = start[r]
        for i0 in range(0, inputs, chunk):
            many = min(chunk, inputs - i0)
            if order == BY_BLOCK:
                source = u8((part * inputs + i0) * block)
                for i in range(u8(many * block)):
                    tile[i] = weight[source + i]
            elif order == BY_INPUT:
                for i in range(many):
                    source = u8((i0 + i) * features + column)
                    target = u8(i * block)
                    for c in range(u8(count)):
                        tile[target + c] = weight[source + c]
            else:
                turn(count, many, tile, 0, block, weight, column * inputs + i0, inputs)
            base = -i0 * block
            for r in range(rows):
                low = cursor[r]
                end = low
                goal = start[r + 1]
                while end < goal and index[end] < i0 + many:
                    end += 1
                cursor[r] = end
                if weighted:
                    add_weighted_rows(
                        block, sums, r * block, tile, base, block, index, values, low, end
                    )
                else:
                    add_rows(block, sums, r * block, tile, base, block, index, low, end)
        for r in range(rows):
            for c in range(count):
                total = sums[r * block + c] * scale + bias[column + c]
                store(out, r * features + column + c, total)


@driver
def linear_rows(
    first, last, out, rows, features, weight, start, index, values, weighted, scale, bias, block,
    sums,
):  # fmt: skip
    """The same for few rows, of a `weight` `[inputs, features]` that is read where something is
    active. `features` is a multiple of the lanes."""
    for part in range(first, last):
        column = part * block
        count = min(block, features - column)
        for r in range(rows):
            for c in range(count):
                sums[c] = 0
            if weighted:
                add_weighted_rows(
                    count, sums, 0, weight, column, features, index, values, start[r], start[r + 1]
                )
            else:
                add_rows(count, sums, 0, weight, column, features, index, start[r], start[r + 1])
            for c in range(count):
                store(out, r * features + column + c, sums[c] * scale + bias[column + c])


@driver
def walk(
    first, last, block, out, features, inputs, table, begin, row, values, weighted, scale, line
):
    """Blocks `first` to `last` of features, added to `out` for the lists of `by_feature`: rows of a
    `table` `[inputs, features]`, read once, the next one asked for while one is added."""
    for part in range(first, last):
        column = part * block
        width = u8(min(block, features - column))
        ahead = 0
        for i in range(inputs):
            if begin[i] == begin[i + 1]:
                continue
            ahead = max(ahead, i + 1)
            while ahead < inputs and begin[ahead] == begin[ahead + 1]:
                ahead += 1
            if ahead < inputs:
                for c in range(0, width, line):
                    fetch(table, ahead * features + column + c)
            for j in range(begin[i], begin[i + 1]):
                value = values[j] if weighted else scale
                at = u8(row[j] * features + column)
                add_row(width, out, at, table, u8(i * features + column), value)


@driver
def by_feature(rows, inputs, start, index, values, weighted, begin, row, row_values):
    """The lists of a linear layer turned: `begin[i]`, and the rows in which input i is active."""
    for i in range(inputs + 2):
        begin[i] = 0
    for j in range(start[rows]):
        begin[index[j] + 2] += 1
    for i in range(inputs):
        begin[i + 2] += begin[i + 1]
    for r in range(rows):
        for j in range(start[r], start[r + 1]):
            i = index[j] + 1
            row[begin[i]] = r
            if weighted:
                row_values[begin[i]] = values[j]
            begin[i] += 1


@driver
def linear_weight(
    first, last, out, by_input, rows, inputs, features, g, scale, begin, row, row_values, weighted,
    block, chunk, table, tile, rounded,
):  # fmt: skip
    """The gradient of blocks `first` to `last` of `block` output features.

    `table` holds the block's columns of `g` close together; `tile` the sums of `chunk` inputs, and
    `rounded` the same in the dtype of `out`.
    """
    for part in range(first, last):
        column = part * block
        count = min(block, features - column)
        for r in range(rows):
            source = r * features + column
            for c in range(count):
                table[r * block + c] = g[source + c]
            for c in range(count, block):
                table[r * block + c] = 0
        for i0 in range(0, inputs, chunk):
            many = min(chunk, inputs - i0)
            for i in range(many * block):
                tile[i] = 0
            for i in range(many):
                low = begin[i0 + i]
                end = begin[i0 + i + 1]
                if weighted:
                    add_weighted_rows(
                        block, tile, i * block, table, 0, block, row, row_values, low, end
                    )
                else:
                    add_rows(block, tile, i * block, table, 0, block, row, low, end)
            if by_input:
                for i in range(many):
                    place = (i0 + i) * features + column
                    for c in range(count):
                        store(out, place + c, tile[i * block + c] * scale)
            else:
                for i in range(many * block):
                    store(rounded, i, tile[i] * scale)
                turn(many, count, out, column * inputs + i0, inputs, rounded, 0, block)
