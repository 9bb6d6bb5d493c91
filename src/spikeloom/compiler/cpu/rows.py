"""Sums over rows of a matrix that generated kernels call: few rows where inputs are spikes, all of
them where they are gradients.

The matrix is `[inputs, width]`, rows contiguous: an input adds its own row. Rows are added several
at a time, so that the sum itself is touched rarely; the order depends on the inputs alone.
"""

import numpy as np

from spikeloom.compiler.cpu.jit import sums

u8 = np.uint64


@sums
def active(values, at, count, places, kept):
    """The non-zero ones among `count` values from `at` on: their places, and they themselves, as
    filled into `places` and `kept` (`count` long). Returns how many there are."""
    m = 0
    for i in range(u8(count)):
        value = values[at + i]
        places[u8(m)] = i
        kept[u8(m)] = value
        m += value != 0
    return m


@sums
def _add_four(width, out, at, rows, r0, r1, r2, r3, v0, v1, v2, v3):
    for c in range(width):
        out[at + c] += (v0 * rows[r0 + c] + v1 * rows[r1 + c]) + (
            v2 * rows[r2 + c] + v3 * rows[r3 + c]
        )


@sums
def add_row(width, out, at, rows, r0, v0):
    """out[at : at + width] += v0 * rows[r0 : r0 + width]."""
    for c in range(width):
        out[at + c] += v0 * rows[r0 + c]


@sums
def add_rows(out, at, width, rows, places, kept, m):
    """out[at : at + width] += the rows `places[:m]`, times `kept[:m]`."""
    width = u8(width)
    at = u8(at)
    j = 0
    while j + 4 <= m:
        a, b, c, d = u8(j), u8(j + 1), u8(j + 2), u8(j + 3)
        _add_four(
            width,
            out,
            at,
            rows,
            u8(places[a]) * width,
            u8(places[b]) * width,
            u8(places[c]) * width,
            u8(places[d]) * width,
            kept[a],
            kept[b],
            kept[c],
            kept[d],
        )
        j += 4
    while j < m:
        a = u8(j)
        add_row(width, out, at, rows, u8(places[a]) * width, kept[a])
        j += 1


@sums
def _add_four_to_four(width, out, o0, o1, o2, o3, rows, r0, r1, r2, r3, v, a0, a1, a2, a3):
    v00, v01, v02, v03 = v[a0], v[a0 + u8(1)], v[a0 + u8(2)], v[a0 + u8(3)]
    v10, v11, v12, v13 = v[a1], v[a1 + u8(1)], v[a1 + u8(2)], v[a1 + u8(3)]
    v20, v21, v22, v23 = v[a2], v[a2 + u8(1)], v[a2 + u8(2)], v[a2 + u8(3)]
    v30, v31, v32, v33 = v[a3], v[a3 + u8(1)], v[a3 + u8(2)], v[a3 + u8(3)]
    for c in range(width):
        w0, w1, w2, w3 = rows[r0 + c], rows[r1 + c], rows[r2 + c], rows[r3 + c]
        out[o0 + c] += (v00 * w0 + v01 * w1) + (v02 * w2 + v03 * w3)
        out[o1 + c] += (v10 * w0 + v11 * w1) + (v12 * w2 + v13 * w3)
        out[o2 + c] += (v20 * w0 + v21 * w1) + (v22 * w2 + v23 * w3)
        out[o3 + c] += (v30 * w0 + v31 * w1) + (v32 * w2 + v33 * w3)


@sums
def product(out, at, width, rows, inputs, values, first, count):
    """out[at + n * width + c] = sum over i of values[first + n * inputs + i] * rows[i, c], for n in
    range(count): a matrix product."""
    for c in range(u8(count * width)):
        out[u8(at) + c] = 0
    n = 0
    while n < count:
        four = n + 4 <= count
        o = u8(at + n * width)
        a = u8(first + n * inputs)
        W = u8(width)
        I = u8(inputs)
        i = 0
        while i < inputs:
            r = u8(i * width)
            if four and i + 4 <= inputs:
                _add_four_to_four(
                    W,
                    out,
                    o,
                    o + W,
                    o + W + W,
                    o + W + W + W,
                    rows,
                    r,
                    r + W,
                    r + W + W,
                    r + W + W + W,
                    values,
                    a + u8(i),
                    a + I + u8(i),
                    a + I + I + u8(i),
                    a + I + I + I + u8(i),
                )
                i += 4
            elif i + 4 <= inputs:
                b = a + u8(i)
                _add_four(
                    W,
                    out,
                    o,
                    rows,
                    r,
                    r + W,
                    r + W + W,
                    r + W + W + W,
                    values[b],
                    values[b + u8(1)],
                    values[b + u8(2)],
                    values[b + u8(3)],
                )
                i += 4
            elif four:
                for k in range(4):
                    add_row(W, out, o + u8(k) * W, rows, r, values[a + u8(k) * I + u8(i)])
                i += 1
            else:
                add_row(W, out, o, rows, r, values[a + u8(i)])
                i += 1
        n += 4 if four else 1


@sums
def outer(out, width, first, last, spikes, grads, count, places, kept):
    """out[i, c] = sum over n in range(count) of spikes[n, i] * grads[n, c], for i in range(first,
    last), by the spikes; all are `[.., width]` and contiguous. Done in chunks of the length of
    `places` and `kept`, whose gradients stay in cache."""
    chunk = len(places)
    for n0 in range(0, count, chunk):
        n1 = min(n0 + chunk, count)
        for i in range(first, last):
            m = 0
            for n in range(n0, n1):
                value = spikes[u8(n * width + i)]
                places[u8(m)] = n
                kept[u8(m)] = value
                m += value != 0
            if m:
                add_rows(out, i * width, width, grads, places, kept, m)
