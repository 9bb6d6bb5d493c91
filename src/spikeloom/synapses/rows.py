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
from numba.core import cgutils
from numba.extending import intrinsic

BITS = 512


def _pointer(context, builder, kind, array, at):
    """The address of element `at`."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def _unaligned(builder, address, vector):
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
        goal = _pointer(context, builder, out_type, out, at)
        for row in range(unroll):
            for v in range(vectors):
                address = builder.gep(goal, [ir.Constant(word, v * lanes)])
                start = zero if row else _unaligned(builder, address, vector)
                builder.store(start, sums[row][v])
        builder.store(first, place)

        def add(row):
            j = builder.add(builder.load(place), ir.Constant(word, row))
            number = builder.load(_pointer(context, builder, index_type, index, j))
            offset = builder.add(base, builder.mul(builder.sext(number, word), stride))
            source = _pointer(context, builder, table_type, table, offset)
            if weighted:
                value = builder.load(_pointer(context, builder, values_type, values, j))
                one = builder.insert_element(
                    ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
                )
                mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
                factor = builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)
            for v in range(vectors):
                address = builder.gep(source, [ir.Constant(word, v * lanes)])
                if isinstance(stored, ir.IntType):
                    half = _unaligned(builder, address, ir.VectorType(stored, lanes))
                    wide = ir.VectorType(ir.IntType(32), lanes)
                    shift = ir.Constant(wide, [16] * lanes)
                    read = builder.bitcast(builder.shl(builder.zext(half, wide), shift), vector)
                else:
                    read = _unaligned(builder, address, vector)
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
        read = _unaligned(builder, _pointer(context, builder, kind, array, at), vector)
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


@intrinsic
def turn_16(typing_context, out, out_at, out_step, array, at, step):
    """`out[out_at + j * out_step + i] = array[at + i * step + j]` for i and j below 16, both of the
    same dtype: four rounds in which pairs of rows swap halves, quarters, ..."""
    where = types.int64

    def generate(context, builder, signature, arguments):
        out_type, _, _, array_type, *_ = signature.args
        out, out_at, out_step, array, at, step = arguments
        vector = ir.VectorType(context.get_value_type(array_type.dtype), 16)
        word = ir.IntType(64)
        masks = ir.VectorType(ir.IntType(32), 16)
        source = _pointer(context, builder, array_type, array, at)
        goal = _pointer(context, builder, out_type, out, out_at)
        rows = [
            _unaligned(
                builder, builder.gep(source, [builder.mul(step, ir.Constant(word, i))]), vector
            )
            for i in range(16)
        ]
        half = 8
        while half:
            low = [k if not k & half else k - half + 16 for k in range(16)]
            high = [k + half if not k & half else k + 16 for k in range(16)]
            for i in range(16):
                if not i & half:
                    a, b = rows[i], rows[i + half]
                    rows[i] = builder.shuffle_vector(a, b, ir.Constant(masks, low))
                    rows[i + half] = builder.shuffle_vector(a, b, ir.Constant(masks, high))
            half //= 2
        for j in range(16):
            address = builder.gep(goal, [builder.mul(out_step, ir.Constant(word, j))])
            store = builder.store(rows[j], builder.bitcast(address, vector.as_pointer()))
            store.align = 1
        return context.get_dummy_value()

    return types.none(out, where, where, array, where, where), generate


@njit(error_model="numpy")
def turn(height, width, out, out_at, out_step, array, at, step):
    """The `[height, width]` at `array[at:]`, rows `step` apart, as `[width, height]`."""
    tall = height // 16 * 16
    broad = width // 16 * 16
    for i in range(0, tall, 16):
        for j in range(0, broad, 16):
            turn_16(out, out_at + j * out_step + i, out_step, array, at + i * step + j, step)
    for i in range(height):
        for j in range(broad if i < tall else 0, width):
            out[out_at + j * out_step + i] = array[at + i * step + j]


@intrinsic
def widened(typing_context, array, at):
    """`array[at]`, from bfloat16 to float32 where the array holds that."""
    result = types.float32 if array.dtype == types.uint16 else array.dtype

    def generate(context, builder, signature, arguments):
        kind, _ = signature.args
        value = builder.load(_pointer(context, builder, kind, *arguments))
        if not isinstance(value.type, ir.IntType):
            return value
        word = ir.IntType(32)
        bits = builder.shl(builder.zext(value, word), ir.Constant(word, 16))
        return builder.bitcast(bits, ir.FloatType())

    return result(array, types.int64), generate


@intrinsic
def store(typing_context, array, at, value):
    """`array[at] = value`, rounded to the nearest bfloat16 where the array holds that."""

    def generate(context, builder, signature, arguments):
        kind, _, _ = signature.args
        array, at, value = arguments
        address = _pointer(context, builder, kind, array, at)
        if kind.dtype == types.uint16:
            word = ir.IntType(32)
            bits = builder.bitcast(value, word)
            odd = builder.and_(builder.lshr(bits, ir.Constant(word, 16)), ir.Constant(word, 1))
            bits = builder.add(builder.add(bits, ir.Constant(word, 0x7FFF)), odd)
            number = builder.fcmp_ordered("ord", value, value)
            bits = builder.select(
                number, builder.lshr(bits, ir.Constant(word, 16)), ir.Constant(word, 0x7FC0)
            )
            value = builder.trunc(bits, ir.IntType(16))
        builder.store(value, address)
        return context.get_dummy_value()

    return types.none(array, types.int64, value), generate


def _as_floats(builder, vector):
    """16-bit lanes as the float32 that they are the upper half of."""
    if not isinstance(vector.type.element, ir.IntType):
        return vector
    wide = ir.VectorType(ir.IntType(32), vector.type.count)
    shift = ir.Constant(wide, [16] * vector.type.count)
    bits = builder.shl(builder.zext(vector, wide), shift)
    return builder.bitcast(bits, ir.VectorType(ir.FloatType(), vector.type.count))


def _max_lines(count):
    """The intrinsic that pools `count` values side by side."""

    def generate(context, builder, signature, arguments):
        x_type, *_, out_type, _, places_type = signature.args
        x, at, line_step, column_step, high, wide, out, target, places = arguments
        stored = ir.VectorType(context.get_value_type(x_type.dtype), count)
        small = ir.VectorType(ir.IntType(8), count)
        first = _unaligned(builder, _pointer(context, builder, x_type, x, at), stored)
        best, place = builder.alloca(stored), builder.alloca(small)
        number = builder.alloca(ir.IntType(8))
        builder.store(first, best)
        builder.store(ir.Constant(small, [0] * count), place)
        builder.store(ir.Constant(ir.IntType(8), 0), number)
        with cgutils.for_range(builder, high) as rows, cgutils.for_range(builder, wide) as columns:
            offset = builder.add(
                builder.mul(rows.index, line_step), builder.mul(columns.index, column_step)
            )
            address = _pointer(context, builder, x_type, x, builder.add(at, offset))
            read = _unaligned(builder, address, stored)
            value, before = _as_floats(builder, read), _as_floats(builder, builder.load(best))
            larger = builder.or_(
                builder.fcmp_ordered(">", value, before),
                builder.fcmp_unordered("uno", value, value),
            )
            builder.store(builder.select(larger, read, builder.load(best)), best)
            here = builder.load(number)
            mine = builder.insert_element(
                ir.Constant(small, ir.Undefined), here, ir.Constant(ir.IntType(32), 0)
            )
            mine = builder.shuffle_vector(
                mine,
                ir.Constant(small, ir.Undefined),
                ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count),
            )
            builder.store(builder.select(larger, mine, builder.load(place)), place)
            builder.store(builder.add(here, ir.Constant(ir.IntType(8), 1)), number)
        for array_type, array, result in ((out_type, out, best), (places_type, places, place)):
            vector = builder.load(result)
            address = _pointer(context, builder, array_type, array, target)
            store = builder.store(vector, builder.bitcast(address, vector.type.as_pointer()))
            store.align = 1
        return context.get_dummy_value()

    @intrinsic
    def max_lines(typing_context, x, at, line_step, column_step, high, wide, out, target, places):
        where = types.int64
        arguments = (x, where, where, where, where, where, out, where, places)
        return types.none(*arguments), generate

    return max_lines


max_lines16, max_lines1 = _max_lines(16), _max_lines(1)


def _chosen_lines(count):
    """The intrinsic that copies `count` values, but for zeros where the place is not this one."""

    def generate(context, builder, signature, arguments):
        g_type, _, places_type, out_type, _, _ = signature.args
        g, at, places, out, target, mine = arguments
        stored = ir.VectorType(context.get_value_type(g_type.dtype), count)
        small = ir.VectorType(ir.IntType(8), count)
        read = _unaligned(builder, _pointer(context, builder, g_type, g, at), stored)
        place = _unaligned(builder, _pointer(context, builder, places_type, places, at), small)
        splat = builder.insert_element(
            ir.Constant(small, ir.Undefined), mine, ir.Constant(ir.IntType(32), 0)
        )
        splat = builder.shuffle_vector(
            splat,
            ir.Constant(small, ir.Undefined),
            ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count),
        )
        value = builder.select(
            builder.icmp_unsigned("==", place, splat), read, ir.Constant(stored, None)
        )
        address = _pointer(context, builder, out_type, out, target)
        store = builder.store(value, builder.bitcast(address, stored.as_pointer()))
        store.align = 1
        return context.get_dummy_value()

    @intrinsic
    def chosen_lines(typing_context, g, at, places, out, target, mine):
        where = types.int64
        return types.none(g, where, places, out, where, types.uint8), generate

    return chosen_lines


chosen_lines16, chosen_lines1 = _chosen_lines(16), _chosen_lines(1)
