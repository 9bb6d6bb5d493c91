"""The kernels of convolutions, on the lists of `list_kernels`.

A table holds the weights by input: `[groups, blocks, taps * channels, block]`. Every output is
summed by one thread, in an order that neither the threads nor the rest of the batch decide.
"""

# pyright: reportCallIssue=false
import numpy as np

from spikeloom.compiler.cpu.jit import driver
from spikeloom.compiler.cpu.rows import add_rows, add_weighted_rows
from spikeloom.synapses.vectors import store

u8 = np.uint64


@driver
def conv_forward(
    first, last, out, last_channel, height, width, high, wide, groups, channels, features,
    kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w,
    table, block, start, ends, index, values, weighted, scale, bias, begin, times, scratch,
):  # fmt: skip
    """Output rows `first` to `last`, counted over images: `[N, high, wide]` in all.

    `channels` and `features` are those of a group; `scratch`: `wide * block` sums. `begin`: what
    the sums of `times` images each begin with, `[N / times, high, wide, groups * features]`, or
    nothing.
    """
    pixels = height * width
    rows = kernel_h * kernel_w * channels
    blocks = -(-features // block)
    zero = scratch.dtype.type(0)
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
            if begin.size:
                for v in range(wide):
                    source = u8((n // times * high + r % high) * wide + v) * u8(groups * features)
                    source += u8(g * features + column)
                    target = u8(v * block)
                    for c in range(u8(count)):
                        scratch[target + c] = begin[source + c]
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
                        if low == high_end:
                            continue
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
                source = u8(v * block)
                for c in range(u8(count)):
                    shift = bias[g * features + column + c] if bias.size else zero
                    scratch[source + c] = scratch[source + c] * scale + shift
                if last_channel:
                    for c in range(u8(count)):
                        store(out, u8(place) + c, scratch[source + c])
                else:
                    for c in range(count):
                        store(out, place + c * step, scratch[source + c])


@driver
def conv_weight(
    first, last, sums, width_sums, images, per_group, pixels, out_pixels, width, groups, channels,
    features, taps, to_table, table_rows, shift, to_output, g, block, start, ends, index, values,
    weighted, table, counts, places, place_values, picked, picked_values,
):  # fmt: skip
    """Sums for the weights of channels `first` to `last` (of all groups together).

    `sums` `[groups * channels, taps, width_sums]` grow by the rows of `g`, `[N * out_pixels, groups
    * features]`, that each active input met. `table` is a block of columns of these rows for a
    handful of `per_group` images: `table_rows[r]` is the output place whose row is the r-th there,
    or -1 for zeros. The input place i of the handful meets, under a tap, the row
    `to_table[i] + shift[tap]`; or, where `shift` is empty, `to_output[tap, i]` or none (-1).
    """
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
                    place = to_table[i * pixels + p]
                    for j in range(start[n] + ends[at + p], start[n] + ends[at + p + 1]):
                        c = index[j] - column + offset
                        if c < 0 or c >= last - first:
                            continue
                        k = c * handful + counts[c]
                        places[k] = place
                        if weighted:
                            place_values[k] = values[j]
                        counts[c] += 1
        for column in range(0, width_sums, block):
            count = min(block, width_sums - column)
            packed = -1
            for c in range(first, last):
                begin = (c - first) * handful
                group = c // channels
                if group != packed:
                    packed = group
                    for r in range(some * len(table_rows) // per_group):
                        place = table_rows[r]
                        if place < 0:
                            some_columns = 0
                        else:
                            some_columns = min(count, features - column)
                            source = (n0 * out_pixels + place) * groups * features
                            source += group * features + column
                            for i in range(some_columns):
                                table[r * count + i] = g[source + i]
                        for i in range(some_columns, count):
                            table[r * count + i] = 0
                for tap in range(taps):
                    target = (c * taps + tap) * width_sums + column
                    if len(shift):
                        end = begin + counts[c - first]
                        base = shift[tap] * count
                        if weighted:
                            add_weighted_rows(
                                count, sums, target, table, base, count, places, place_values,
                                begin, end,
                            )  # fmt: skip
                        else:
                            add_rows(count, sums, target, table, base, count, places, begin, end)
                        continue
                    k = 0
                    for j in range(begin, begin + counts[c - first]):
                        place = to_output[tap * handful + places[j]]
                        picked[k] = place
                        if weighted:
                            picked_values[k] = place_values[j]
                        k += place >= 0
                    if weighted:
                        add_weighted_rows(
                            count, sums, target, table, 0, count, picked, picked_values, 0, k
                        )
                    else:
                        add_rows(count, sums, target, table, 0, count, picked, 0, k)
