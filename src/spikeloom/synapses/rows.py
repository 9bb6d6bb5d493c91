"""Sums of rows of a table, the one operation that sparse synapses are made of.

    out[at : at + width] += sum over j in [first, last) of table[base + index[j] * stride + ...]

(each row times `values[j]` in the weighted form). The sum stays in vector registers while the rows
pass, at most eight vectors of 64 bytes at a time, so that a row costs what it takes to load it. To
say so takes LLVM's vector types, which numba does not offer: two intrinsics write that loop, and
one the bit mask of a vector's nonzero lanes. LLVM splits the vectors on processors with narrower
ones.

`width` is a multiple of the `lanes(out)` elements that fit a vector. Tables of 16-bit integers hold
bfloat16; they are widened as they are read, and summed in float32.
"""

# pyright: reportArgumentType=false, reportCallIssue=false, reportPossiblyUnboundVariable=false
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

BITS = 512


def pointer(context, builder, kind, array, at):
    """The address of element `at`."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def unaligned(builder, address, vector):
    load = builder.load(builder.bitcast(address, vector.as_pointer()))
    load.align = 1
    return load


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
            store = builder.store(total, builder.bitcast(address, vector.as_pointer()))
            store.align = 1
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


def _nonzero_bits(count):
    """The intrinsic that looks at `count` elements."""

    def generate(context, builder, signature, arguments):
        kind, _ = signature.args
        array, at = arguments
        element = context.get_value_type(kind.dtype)
        vector = ir.VectorType(element, count)
        read = unaligned(builder, pointer(context, builder, kind, array, at), vector)
        if isinstance(element, ir.IntType):  # bfloat16, whose zero may have a sign
            read = builder.shl(read, ir.Constant(vector, [1] * count))
            bits = builder.icmp_unsigned("!=", read, ir.Constant(vector, [0] * count))
        else:
            bits = builder.fcmp_unordered("!=", read, ir.Constant(vector, [0.0] * count))
        word = builder.bitcast(bits, ir.IntType(count))
        return word if count == 64 else builder.zext(word, ir.IntType(64))

    @intrinsic
    def nonzero_bits(typing_context, array, at):
        return types.uint64(array, types.int64), generate

    return nonzero_bits


_bits64, _bits16, _bits1 = (_nonzero_bits(count) for count in (64, 16, 1))


@intrinsic
def _lowest_bit(typing_context, word):
    """The place of the lowest set bit of a word that is not 0."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic
def _bit_count(typing_context, word):
    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@njit(error_model="numpy")
def count_nonzero(array, at, count):
    """How many of `array[at : at + count]` are not zero (NaN is not)."""
    i = 0
    total = 0
    while i + 64 <= count:
        total += _bit_count(_bits64(array, at + i))
        i += 64
    while i < count:
        total += _bit_count(_bits1(array, at + i))
        i += 1
    return total


@njit(error_model="numpy")
def list_nonzero(array, at, count, offset, index, k):
    """Append `offset + i` to `index[k:]` for every nonzero `array[at + i]`, i < count.

    Returns the new k.
    """
    i = 0
    while i < count:
        if i + 64 <= count:
            bits = _bits64(array, at + i)
            step = 64
        elif i + 16 <= count:
            bits = _bits16(array, at + i)
            step = 16
        else:
            bits = _bits1(array, at + i)
            step = 1
        while bits != 0:
            index[k] = offset + i + _lowest_bit(bits)
            bits &= bits - types.uint64(1)
            k += 1
        i += step
    return k


@njit(error_model="numpy")
def list_window(array, at, line, high, wide, count, offset, index, k):
    """As `list_nonzero`, of the maxima over a window: the places at which any of `high * wide` rows
    of `count` elements is not zero. Those of a line follow each other, lines are `line` apart."""
    i = 0
    while i < count:
        bits = types.uint64(0)
        if i + 64 <= count:
            step = 64
        elif i + 16 <= count:
            step = 16
        else:
            step = 1
        for h in range(high):
            for w in range(wide):
                place = at + h * line + w * count + i
                if step == 64:
                    bits |= _bits64(array, place)
                elif step == 16:
                    bits |= _bits16(array, place)
                else:
                    bits |= _bits1(array, place)
        while bits != 0:
            index[k] = offset + i + _lowest_bit(bits)
            bits &= bits - types.uint64(1)
            k += 1
        i += step
    return k
