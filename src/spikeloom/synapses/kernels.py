"""The kernels of sparse convolutions and linear layers, as numba compiles them.

A *list* names the active inputs of an image. For a convolution it is kept by group and pixel:

    start[n]                 where the list of image n begins in `index` and `values`
    ends[n, g, p]            where that of pixel p of group g begins, counted from start[n]
                             (one more at the end of each group)
    index[...]               column * channels + channel, so that the pixels of an image row that a
                             kernel row covers are one run of the list, and one run of table rows

and for a linear layer by row: `start[r]` and the numbers of its active features.

A table holds the weights by input: `[groups, blocks, taps * channels, block]`. Every output is
summed by one thread, in an order that neither the threads nor the rest of the batch decide.
"""

# pyright: reportCallIssue=false
from numba import types

from spikeloom.compiler.cpu.jit import driver
from spikeloom.synapses.rows import (
    add_rows,
    add_weighted_rows,
    chosen_lines1,
    chosen_lines16,
    count_nonzero,
    list_nonzero,
    max_lines1,
    max_lines16,
    store,
    turn,
    widened,
)


@driver
def count_rows(first, last, x, size, counts):
    """The nonzeros of each row of `size` elements."""
    for r in range(first, last):
        counts[r] = count_nonzero(x, r * size, size)


@driver
def list_rows(first, last, x, size, start, index, values, one):
    for r in range(first, last):
        k = start[r]
        list_nonzero(x, r * size, size, 0, index, k)
        for j in range(k, start[r + 1]):
            values[j] = widened(x, r * size + index[j])
        for j in range(k, start[r + 1]):
            one[r] &= values[j] == values[k]


@driver
def list_channels_last(
    first, last, x, height, width, groups, channels, start, ends, index, values, one
):
    """The lists of images `[H, W, groups * channels]`; `one[n]`: all their values are the same."""
    pixels = height * width
    for n in range(first, last):
        image = n * pixels * groups * channels
        begin = start[n]
        k = begin
        for g in range(groups):
            at = (n * groups + g) * (pixels + 1)
            for p in range(pixels):
                ends[at + p] = k - begin
                column = (p % width) * channels
                source = image + (p * groups + g) * channels
                e = list_nonzero(x, source, channels, column, index, k)
                for j in range(k, e):
                    values[j] = widened(x, source + index[j] - column)
                k = e
            ends[at + pixels] = k - begin
        for j in range(begin, k):
            one[n] &= values[j] == values[begin]


@driver
def list_channels_first(
    first, last, x, height, width, groups, channels, start, ends, index, values, one, scratch, fill
):
    """The same of images `[groups * channels, H, W]`: listed by channel, then sorted by pixel.

    `scratch`: integers, as many as the largest image has elements; `fill`: as many as pixels.
    """
    pixels = height * width
    for n in range(first, last):
        begin = start[n]
        done = 0
        for g in range(groups):
            at = (n * groups + g) * (pixels + 1)
            plane = (n * groups + g) * channels * pixels
            for p in range(pixels + 1):
                ends[at + p] = 0
            for c in range(channels):
                for j in range(list_nonzero(x, plane + c * pixels, pixels, 1, scratch, 0)):
                    ends[at + scratch[j]] += 1
            ends[at] = done
            for p in range(pixels):
                ends[at + p + 1] += ends[at + p]
                fill[p] = begin + ends[at + p]
            for c in range(channels):
                source = plane + c * pixels
                for j in range(list_nonzero(x, source, pixels, 0, scratch, 0)):
                    p = scratch[j]
                    k = fill[p]
                    index[k] = (p % width) * channels + c
                    values[k] = widened(x, source + p)
                    fill[p] = k + 1
            done = ends[at + pixels]
        for j in range(begin, begin + done):
            one[n] &= values[j] == values[begin]


@driver
def conv_forward(
    first, last, out, last_channel, height, width, high, wide, groups, channels, features,
    kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w,
    table, block, start, ends, index, values, weighted, scale, bias, scratch,
):  # fmt: skip
    """Output rows `first` to `last`, counted over images: `[N, high, wide]` in all.

    `channels` and `features` are those of a group; `scratch`: `wide * block` sums.
    """
    pixels = height * width
    rows = kernel_h * kernel_w * channels
    blocks = -(-features // block)
    run = kernel_w if dilation_w == 1 else 1  # pixels that one run of the list covers
    for part in range(groups * blocks):
        g = part // blocks
        column = (part % blocks) * block
        count = min(block, features - column)
        for r in range(first, last):
            n = r // high
            top = (r % high) * stride_h - pad_h
            at = (n * groups + g) * (pixels + 1)
            for i in range(wide * block):
                scratch[i] = 0
            for a in range(kernel_h):
                h = top + a * dilation_h
                if h < 0 or h >= height:
                    continue
                row = at + h * width
                for v in range(wide):
                    left = v * stride_w - pad_w
                    for b in range(0, kernel_w, run):
                        w = left + b * dilation_w
                        low = start[n] + ends[row + max(0, min(w, width))]
                        high_end = start[n] + ends[row + max(0, min(w + run, width))]
                        base = (part * rows + (a * kernel_w + b - w) * channels) * block
                        if weighted:
                            add_weighted_rows(
                                block, scratch, v * block, table, base, block,
                                index, values, low, high_end,
                            )  # fmt: skip
                        else:
                            add_rows(
                                block, scratch, v * block, table, base, block,
                                index, low, high_end,
                            )  # fmt: skip
            for v in range(wide):
                place = (r * wide + v) * groups * features + g * features + column
                step = 1
                if not last_channel:
                    place = (n * groups + g) * features + column
                    place = (place * high + r % high) * wide + v
                    step = high * wide
                if bias.size:
                    for c in range(count):
                        shift = bias[g * features + column + c]
                        store(out, place + c * step, scratch[v * block + c] * scale + shift)
                else:
                    for c in range(count):
                        store(out, place + c * step, scratch[v * block + c] * scale)


@driver
def conv_weight(
    first, last, sums, width_sums, images, per_group, height, width, out_pixels, groups, channels,
    features, taps, to_output, g, block, start, ends, index, values, weighted,
    counts, places, place_values, picked, picked_values,
):  # fmt: skip
    """Sums for the weights of channels `first` to `last` (of all groups together).

    `sums` `[groups * channels, taps, width_sums]` grow by the rows of `g`, `[N * out_pixels, groups
    * features]`, that each active input met. `to_output[tap, i]`: the output place that input place
    i of a handful of `per_group` images meets, or -1.
    """
    pixels = height * width
    handful = per_group * pixels
    for n0 in range(0, images, per_group):
        some = min(per_group, images - n0)
        for c in range(first, last):
            counts[c - first] = 0
        for i in range(some):
            n = n0 + i
            for group in range(first // channels, (last - 1) // channels + 1):
                at = (n * groups + group) * (pixels + 1)
                offset = group * channels - first
                for p in range(pixels):
                    column = (p % width) * channels
                    for j in range(start[n] + ends[at + p], start[n] + ends[at + p + 1]):
                        c = index[j] - column + offset
                        if c < 0 or c >= last - first:
                            continue
                        k = c * handful + counts[c]
                        places[k] = i * pixels + p
                        if weighted:
                            place_values[k] = values[j]
                        counts[c] += 1
        for column in range(0, width_sums, block):
            count = min(block, width_sums - column)
            for c in range(first, last):
                here = (c - first) * handful
                group = c // channels
                base = n0 * out_pixels * groups * features + group * features + column
                for tap in range(taps):
                    k = 0
                    for j in range(here, here + counts[c - first]):
                        place = to_output[tap * handful + places[j]]
                        picked[k] = place
                        if weighted:
                            picked_values[k] = place_values[j]
                        k += place >= 0
                    target = (c * taps + tap) * width_sums + column
                    if weighted:
                        add_weighted_rows(
                            count, sums, target, g, base, groups * features,
                            picked, picked_values, 0, k,
                        )  # fmt: skip
                    else:
                        add_rows(
                            count, sums, target, g, base, groups * features, picked, 0, k
                        )  # fmt: skip


@driver
def linear_forward(
    first, last, out, rows, inputs, features, weight, by_input, chunk, start, index, values,
    weighted, scale, bias, block, sums, tile, cursor,
):  # fmt: skip
    """Blocks `first` to `last` of `block` output features, for all rows.

    `weight` is `[inputs, features]` if `by_input`, else `[features, inputs]`; a tile of `chunk`
    inputs by `block` features is brought into the cache and meets all rows there.
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
            if by_input:
                for i in range(many):
                    source = (i0 + i) * features + column
                    for c in range(count):
                        tile[i * block + c] = weight[source + c]
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


@driver
def max_pool(first, last, x, out, places, height, width, channels, window_h, window_w):
    """Images `[height, width, channels]` of `x`: the first maximum of each window, and its place.

    NaN is larger than everything, as in torch.
    """
    high = height // window_h
    wide = width // window_w
    line = width * channels
    for n in range(first, last):
        for i in range(high):
            for j in range(wide):
                source = ((n * height + i * window_h) * width + j * window_w) * channels
                target = ((n * high + i) * wide + j) * channels
                c = 0
                while c + 16 <= channels:
                    max_lines16(
                        x, source + c, line, channels, window_h, window_w, out, target + c, places
                    )
                    c += 16
                while c < channels:
                    max_lines1(
                        x, source + c, line, channels, window_h, window_w, out, target + c, places
                    )
                    c += 1


@driver
def max_pool_gradient(first, last, g, out, places, height, width, channels, window_h, window_w):
    high = height // window_h
    wide = width // window_w
    for n in range(first, last):
        for h in range(height):
            i = h // window_h
            row = (n * height + h) * width * channels
            inside = wide * window_w if i < high else 0
            for w in range(inside):
                mine = types.uint8((h % window_h) * window_w + w % window_w)
                source = ((n * high + i) * wide + w // window_w) * channels
                target = row + w * channels
                c = 0
                while c + 16 <= channels:
                    chosen_lines16(g, source + c, places, out, target + c, mine)
                    c += 16
                while c < channels:
                    chosen_lines1(g, source + c, places, out, target + c, mine)
                    c += 1
            for k in range(row + inside * channels, row + width * channels):
                out[k] = 0
