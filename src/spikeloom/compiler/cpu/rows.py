"""Sums of rows of a table, the one operation that sparse synapses are made of.

    out[at : at + width] += sum over j in [first, last) of table[base + index[j] * stride + ...]

(each row times `values[j]` in the weighted form). The sum stays in vector registers while the rows
pass, at most eight vectors at a time, so that a row costs what it takes to load it. The order of a
sum depends on its rows alone.

`width` is a multiple of the `lanes(out)` elements that fit a vector, but for `add_any_rows`. Tables
of 16-bit integers hold bfloat16; they are widened as they are read, and summed in float32.
"""

# pyright: reportArgumentType=false, reportCallIssue=false, reportPossiblyUnboundVariable=false
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from spikeloom.compiler.cpu.jit import sums
from spikeloom.compiler.cpu.llvm import as_floats, lanes, pointer, put, spread, unaligned, vector_of

u8 = np.uint64


def _row_sums(vectors, unroll, weighted):
    """The intrinsic that adds rows of `vectors` vectors, `unroll` rows at a time."""

    def generate(context, builder, signature, arguments):
        out_type, _, table_type, _, _, index_type, values_type, *_ = signature.args
        out, at, table, base, stride, index, values, first, last = arguments
        vector = vector_of(context, out_type)
        lanes = vector.count
        stored = ir.VectorType(context.get_value_type(table_type.dtype), lanes)
        word = ir.IntType(64)
        zero = ir.Constant(vector, [0.0] * lanes)
        # Sums in stack slots: LLVM promotes them to registers.
        sums = [
            [builder.alloca(vector, name=f"sum_{row}_{v}") for v in range(vectors)]
            for row in range(unroll)
        ]
        place = builder.alloca(word)
        goal = pointer(context, builder, out_type, out, at)
        for row in range(unroll):
            for v in range(vectors):
                address = builder.gep(goal, [ir.Constant(word, v * lanes)])
                start = zero if row else unaligned(builder, address, vector)
                builder.store(start, sums[row][v])
        builder.store(first, place)

        def add(row):
            j = builder.add(builder.load(place), ir.Constant(word, row))
            number = builder.load(pointer(context, builder, index_type, index, j))
            offset = builder.add(base, builder.mul(builder.sext(number, word), stride))
            source = pointer(context, builder, table_type, table, offset)
            if weighted:
                value = builder.load(pointer(context, builder, values_type, values, j))
                factor = spread(builder, value, lanes)
            for v in range(vectors):
                address = builder.gep(source, [ir.Constant(word, v * lanes)])
                term = as_floats(builder, unaligned(builder, address, stored))
                if weighted:
                    term = builder.fmul(term, factor)
                before = builder.load(sums[row][v])
                builder.store(builder.fadd(before, term, flags=["contract"]), sums[row][v])

        def loop(rows):
            """While `rows` more are there, add them."""
            head, body, done = (builder.append_basic_block() for _ in range(3))
            builder.branch(head)
            builder.position_at_end(head)
            after = builder.add(builder.load(place), ir.Constant(word, rows))
            builder.cbranch(builder.icmp_signed("<=", after, last), body, done)
            builder.position_at_end(body)
            for row in range(rows):
                add(row)
            builder.store(builder.add(builder.load(place), ir.Constant(word, rows)), place)
            builder.branch(head)
            builder.position_at_end(done)

        if unroll > 1:
            loop(unroll)
        loop(1)
        for v in range(vectors):
            total = builder.load(sums[0][v])
            for row in range(1, unroll):
                total = builder.fadd(total, builder.load(sums[row][v]))
            address = builder.gep(goal, [ir.Constant(word, v * lanes)])
            put(builder, total, address)
        return context.get_dummy_value()

    @intrinsic
    def add_rows(typing_context, out, at, table, base, stride, index, values, first, last):
        where = types.int64
        signature = types.none(out, where, table, where, where, index, values, where, where)
        return signature, generate

    return add_rows


def _row_adder(weighted):
    """The sum of rows of any number of whole vectors, by as many at a time as are left. Written out
    where it is called: a call more costs what adding a few short rows does."""
    add_1, add_2, add_4, add_8 = (_row_sums(n, max(1, 4 // n), weighted) for n in (1, 2, 4, 8))

    @njit(error_model="numpy", inline="always")
    def add(width, out, at, table, base, stride, index, values, first, last):
        step = lanes(out)
        done = 0
        while done + 8 * step <= width:
            add_8(out, at + done, table, base + done, stride, index, values, first, last)
            done += 8 * step
        if done + 4 * step <= width:
            add_4(out, at + done, table, base + done, stride, index, values, first, last)
            done += 4 * step
        if done + 2 * step <= width:
            add_2(out, at + done, table, base + done, stride, index, values, first, last)
            done += 2 * step
        if done + step <= width:
            add_1(out, at + done, table, base + done, stride, index, values, first, last)

    return add


_add_plain, _add_weighted = _row_adder(False), _row_adder(True)


@njit(error_model="numpy")
def add_rows(width, out, at, table, base, stride, index, first, last):
    """Add the rows `index[first:last]` of `table` to `out[at : at + width]`."""
    _add_plain(width, out, at, table, base, stride, index, index, first, last)


@njit(error_model="numpy")
def add_weighted_rows(width, out, at, table, base, stride, index, values, first, last):
    """The same, each row times its value (of the dtype of `out`)."""
    _add_weighted(width, out, at, table, base, stride, index, values, first, last)


@sums
def add_any_rows(width, out, at, table, base, stride, index, values, first, last):
    """The same, of any width."""
    whole = width // lanes(out) * lanes(out)
    add_weighted_rows(whole, out, at, table, base, stride, index, values, first, last)
    if whole < width:
        for j in range(first, last):
            row = u8(base + index[j] * stride + whole)
            add_row(u8(width - whole), out, u8(at + whole), table, row, values[j])


@sums
def _add_eight(width, out, at, rows, r, v):
    r0, r1, r2, r3, r4, r5, r6, r7 = r
    v0, v1, v2, v3, v4, v5, v6, v7 = v
    for c in range(width):
        out[at + c] += (
            (v0 * rows[r0 + c] + v1 * rows[r1 + c]) + (v2 * rows[r2 + c] + v3 * rows[r3 + c])
        ) + ((v4 * rows[r4 + c] + v5 * rows[r5 + c]) + (v6 * rows[r6 + c] + v7 * rows[r7 + c]))


@sums
def add_long_rows(width, out, at, rows, places, kept, m):
    """out[at : at + width] += the rows `places[:m]` of `rows`, times `kept[:m]`: rows so long that
    they come from memory, which is fastest from one end to the other, several at a time."""
    width = u8(width)
    at = u8(at)
    j = 0
    while j + 8 <= m:
        p, k = places[j : j + 8], kept[j : j + 8]
        r = (
            *(u8(p[0]) * width, u8(p[1]) * width, u8(p[2]) * width, u8(p[3]) * width),
            *(u8(p[4]) * width, u8(p[5]) * width, u8(p[6]) * width, u8(p[7]) * width),
        )
        _add_eight(width, out, at, rows, r, (k[0], k[1], k[2], k[3], k[4], k[5], k[6], k[7]))
        j += 8
    while j < m:
        add_row(width, out, at, rows, u8(places[j]) * width, kept[j])
        j += 1


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
def add_row(width, out, at, rows, r0, v0):
    """out[at : at + width] += v0 * rows[r0 : r0 + width]."""
    for c in range(width):
        out[at + c] += v0 * rows[r0 + c]


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
                add_any_rows(width, out, i * width, grads, 0, width, places, kept, 0, m)
