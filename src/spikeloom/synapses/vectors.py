"""What kernels do with vectors besides adding them: turning tiles, widening and rounding bfloat16,
and choosing maxima: see `compiler.cpu.llvm`."""

# pyright: reportArgumentType=false, reportCallIssue=false
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from spikeloom.compiler.cpu.llvm import as_floats, pointer, put, spread, unaligned


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
        source = pointer(context, builder, array_type, array, at)
        goal = pointer(context, builder, out_type, out, out_at)
        rows = [
            unaligned(
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
            put(builder, rows[j], address)
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
def fetch(typing_context, array, at):
    """Asks for the line of memory of `array[at]`, and does not wait for it."""

    def generate(context, builder, signature, arguments):
        kind, _ = signature.args
        byte = ir.IntType(8).as_pointer()
        word = ir.IntType(32)
        declared = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        )
        address = builder.bitcast(pointer(context, builder, kind, *arguments), byte)
        builder.call(declared, [address, *(ir.Constant(word, value) for value in (0, 3, 1))])
        return context.get_dummy_value()

    return types.none(array, types.int64), generate


@intrinsic
def widened(typing_context, array, at):
    """`array[at]`, from bfloat16 to float32 where the array holds that."""
    result = types.float32 if array.dtype == types.uint16 else array.dtype

    def generate(context, builder, signature, arguments):
        kind, _ = signature.args
        value = builder.load(pointer(context, builder, kind, *arguments))
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
        address = pointer(context, builder, kind, array, at)
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


def _max_lines(count):
    """The intrinsic that pools `count` values side by side."""

    def generate(context, builder, signature, arguments):
        x_type, *_, out_type, _, places_type = signature.args
        x, at, line_step, column_step, high, wide, out, target, places = arguments
        stored = ir.VectorType(context.get_value_type(x_type.dtype), count)
        small = ir.VectorType(ir.IntType(8), count)
        first = unaligned(builder, pointer(context, builder, x_type, x, at), stored)
        best, place = builder.alloca(stored), builder.alloca(small)
        number = builder.alloca(ir.IntType(8))
        builder.store(first, best)
        builder.store(ir.Constant(small, [0] * count), place)
        builder.store(ir.Constant(ir.IntType(8), 0), number)
        with cgutils.for_range(builder, high) as rows, cgutils.for_range(builder, wide) as columns:
            offset = builder.add(
                builder.mul(rows.index, line_step), builder.mul(columns.index, column_step)
            )
            address = pointer(context, builder, x_type, x, builder.add(at, offset))
            read = unaligned(builder, address, stored)
            value, before = as_floats(builder, read), as_floats(builder, builder.load(best))
            larger = builder.or_(
                builder.fcmp_ordered(">", value, before),
                builder.fcmp_unordered("uno", value, value),
            )
            builder.store(builder.select(larger, read, builder.load(best)), best)
            here = builder.load(number)
            mine = spread(builder, here, count)
            builder.store(builder.select(larger, mine, builder.load(place)), place)
            builder.store(builder.add(here, ir.Constant(ir.IntType(8), 1)), number)
        for array_type, array, result in ((out_type, out, best), (places_type, places, place)):
            put(builder, builder.load(result), pointer(context, builder, array_type, array, target))
        return context.get_dummy_value()

    @intrinsic
    def max_lines(typing_context, x, at, line_step, column_step, high, wide, out, target, places):
        where = types.int64
        arguments = (x, where, where, where, where, where, out, where, places)
        return types.none(*arguments), generate

    return max_lines


max_lines16, max_lines1 = _max_lines(16), _max_lines(1)


def _chosen_lines(count, past_cache=False):
    """The intrinsic that copies `count` values, but for zeros where the place is not this one.

    `past_cache`: to whole, aligned lines of memory, which are not read into the cache first."""

    def generate(context, builder, signature, arguments):
        g_type, _, places_type, out_type, _, _ = signature.args
        g, at, places, out, target, mine = arguments
        stored = ir.VectorType(context.get_value_type(g_type.dtype), count)
        small = ir.VectorType(ir.IntType(8), count)
        read = unaligned(builder, pointer(context, builder, g_type, g, at), stored)
        place = unaligned(builder, pointer(context, builder, places_type, places, at), small)
        here = builder.icmp_unsigned("==", place, spread(builder, mine, count))
        value = builder.select(here, read, ir.Constant(stored, None))
        address = pointer(context, builder, out_type, out, target)
        store = put(builder, value, address)
        if past_cache:
            store.align = 64
            flag = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
            store.set_metadata("nontemporal", flag)
        return context.get_dummy_value()

    @intrinsic
    def chosen_lines(typing_context, g, at, places, out, target, mine):
        where = types.int64
        return types.none(g, where, places, out, where, types.uint8), generate

    return chosen_lines


chosen_lines16, chosen_lines1 = _chosen_lines(16), _chosen_lines(1)
chosen_lines16_past_cache = _chosen_lines(16, past_cache=True)
