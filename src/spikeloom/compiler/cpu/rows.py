"""Sums of rows of a table, the one operation that sparse synapses are made of, and products of
matrices for the gradients that are dense.

    out[at : at + width] += sum over j in [first, last) of table[base + index[j] * stride + ...]

(each row times `values[j]` in the weighted form). The sum stays in vector registers while the rows
pass, at most eight vectors of 64 bytes at a time, so that a row costs what it takes to load it. To
say so takes LLVM's vector types, which numba does not offer: intrinsics write these loops. LLVM
splits the vectors on processors with narrower ones. The order of a sum depends on its rows alone.

`width` is a multiple of the `lanes(out)` elements that fit a vector, but for `add_any_rows`. Tables
of 16-bit integers hold bfloat16; they are widened as they are read, and summed in float32.
"""

# pyright: reportArgumentType=false, reportCallIssue=false, reportPossiblyUnboundVariable=false
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from spikeloom.compiler.cpu.jit import sums

u8 = np.uint64
VECTORS = 2
"""Of columns of a product that registers hold at a time."""

BITS = 512


def pointer(context, builder, kind, array, at):
    """The address of element `at`."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def unaligned(builder, address, vector):
    load = builder.load(builder.bitcast(address, vector.as_pointer()))
    load.align = 1
    return load


def put(builder, value, address):
    store = builder.store(value, builder.bitcast(address, value.type.as_pointer()))
    store.align = 1


def _row_sums(vectors, unroll, weighted):
    """The intrinsic that adds rows of `vectors` vectors, `unroll` rows at a time."""

    def generate(context, builder, signature, arguments):
        out_type, _, table_type, _, _, index_type, values_type, *_ = signature.args
        out, at, table, base, stride, index, values, first, last = arguments
        element = context.get_value_type(out_type.dtype)
        lanes = BITS // out_type.dtype.bitwidth
        vector = ir.VectorType(element, lanes)
        stored = context.get_value_type(table_type.dtype)
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
                one = builder.insert_element(
                    ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
                )
                mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
                factor = builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)
            for v in range(vectors):
                address = builder.gep(source, [ir.Constant(word, v * lanes)])
                if isinstance(stored, ir.IntType):
                    half = unaligned(builder, address, ir.VectorType(stored, lanes))
                    wide = ir.VectorType(ir.IntType(32), lanes)
                    shift = ir.Constant(wide, [16] * lanes)
                    read = builder.bitcast(builder.shl(builder.zext(half, wide), shift), vector)
                else:
                    read = unaligned(builder, address, vector)
                if weighted:
                    read = builder.fmul(read, factor)
                before = builder.load(sums[row][v])
                builder.store(builder.fadd(before, read, flags=["contract"]), sums[row][v])

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


_plain = {count: _row_sums(count, max(1, 4 // count), False) for count in (1, 2, 4, 8)}
_times = {count: _row_sums(count, max(1, 4 // count), True) for count in (1, 2, 4, 8)}
_plain1, _plain2, _plain4, _plain8 = (_plain[count] for count in (1, 2, 4, 8))
_times1, _times2, _times4, _times8 = (_times[count] for count in (1, 2, 4, 8))


@njit(error_model="numpy")
def lanes(out):
    """How many elements of `out` fit a vector."""
    return 64 // out.itemsize


@njit(error_model="numpy")
def add_rows(width, out, at, table, base, stride, index, first, last):
    """Add the rows `index[first:last]` of `table` to `out[at : at + width]`."""
    step = lanes(out)
    done = 0
    while done + 8 * step <= width:
        _plain8(out, at + done, table, base + done, stride, index, index, first, last)
        done += 8 * step
    if done + 4 * step <= width:
        _plain4(out, at + done, table, base + done, stride, index, index, first, last)
        done += 4 * step
    if done + 2 * step <= width:
        _plain2(out, at + done, table, base + done, stride, index, index, first, last)
        done += 2 * step
    if done + step <= width:
        _plain1(out, at + done, table, base + done, stride, index, index, first, last)


@njit(error_model="numpy")
def add_weighted_rows(width, out, at, table, base, stride, index, values, first, last):
    """The same, each row times its value (of the dtype of `out`)."""
    step = lanes(out)
    done = 0
    while done + 8 * step <= width:
        _times8(out, at + done, table, base + done, stride, index, values, first, last)
        done += 8 * step
    if done + 4 * step <= width:
        _times4(out, at + done, table, base + done, stride, index, values, first, last)
        done += 4 * step
    if done + 2 * step <= width:
        _times2(out, at + done, table, base + done, stride, index, values, first, last)
        done += 2 * step
    if done + step <= width:
        _times1(out, at + done, table, base + done, stride, index, values, first, last)


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


def _small_product(count):
    """The intrinsic that computes `count` rows by `VECTORS` vectors of columns."""

    def generate(context, builder, signature, arguments):
        left_type, right_type, out_type = (signature.args[i] for i in (0, 4, 7))
        left, at, pitch, depth, right, right_at, apart, out, goal, step = arguments
        lanes = BITS // out_type.dtype.bitwidth
        vector, word = ir.VectorType(context.get_value_type(out_type.dtype), lanes), ir.IntType(64)
        zero = ir.Constant(vector, [0.0] * lanes)
        sums = [
            [cgutils.alloca_once_value(builder, zero) for _ in range(VECTORS)] for _ in range(count)
        ]
        for row in sums:
            for each in row:
                builder.store(zero, each)
        a = pointer(context, builder, left_type, left, at)
        rows = [builder.gep(a, [builder.mul(pitch, ir.Constant(word, r))]) for r in range(count)]
        b = pointer(context, builder, right_type, right, right_at)
        mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        with cgutils.for_range(builder, depth) as loop:
            here = builder.gep(b, [builder.mul(loop.index, apart)])
            columns = [
                unaligned(builder, builder.gep(here, [ir.Constant(word, v * lanes)]), vector)
                for v in range(VECTORS)
            ]
            for row, before in zip(rows, sums, strict=True):
                value = builder.load(builder.gep(row, [loop.index]))
                one = builder.insert_element(
                    ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
                )
                factor = builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)
                for total, column in zip(before, columns, strict=True):
                    term = builder.fmul(factor, column, flags=["contract"])
                    term = builder.fadd(builder.load(total), term, flags=["contract"])
                    builder.store(term, total)
        c = pointer(context, builder, out_type, out, goal)
        for r, row in enumerate(sums):
            place = builder.gep(c, [builder.mul(step, ir.Constant(word, r))])
            for v, total in enumerate(row):
                address = builder.gep(place, [ir.Constant(word, v * lanes)])
                put(builder, builder.load(total), address)
        return context.get_dummy_value()

    @intrinsic
    def small_product(
        typing_context, left, at, pitch, depth, right, right_at, apart, out, goal, step
    ):
        """Rows of `left`, each `depth` long and `pitch` from the next, times `[depth, VECTORS
        vectors]` of `right`, its rows `apart`, into rows of `out`, `step` from the next."""
        where = types.int64
        arguments = (left, where, where, where, right, where, where, out, where, where)
        return types.none(*arguments), generate

    return small_product


product12, _product8, _product1 = (_small_product(count) for count in (12, 8, 1))


@sums
def product(out, at, width, rows, inputs, values, first, count):
    """out[at + n * width + c] = sum over i of values[first + n * inputs + i] * rows[i, c], for n in
    range(count): a matrix product."""
    panel = VECTORS * lanes(out)
    whole = width // panel * panel
    for column in range(0, whole, panel):
        n = 0
        while n < count:
            here = first + n * inputs
            goal = at + n * width + column
            if n + 8 <= count:
                _product8(values, here, inputs, inputs, rows, column, width, out, goal, width)
                n += 8
            else:
                _product1(values, here, inputs, inputs, rows, column, width, out, goal, width)
                n += 1
    if whole < width:
        for n in range(count):
            goal = at + n * width + whole
            for k in range(width - whole):
                out[u8(goal + k)] = 0
            for i in range(inputs):
                value = values[u8(first + n * inputs + i)]
                add_row(u8(width - whole), out, u8(goal), rows, u8(i * width + whole), value)


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
