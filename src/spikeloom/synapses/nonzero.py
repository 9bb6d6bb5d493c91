"""Where an array is not zero: the bit masks of whole vectors, and lists made from them. LLVM's
vector types, as in `compiler.cpu.llvm`."""

# pyright: reportArgumentType=false, reportCallIssue=false
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from spikeloom.compiler.cpu.llvm import pointer, unaligned


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


@njit(error_model="numpy", inline="always")
def _list_bits(bits, offset, index, k):
    """Append `offset` plus the place of each set bit to `index[k:]`; returns the new k. Written out
    where it is called: a call took a sixth longer."""
    while bits != 0:
        index[k] = offset + _lowest_bit(bits)
        bits &= bits - types.uint64(1)
        k += 1
    return k


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
        k = _list_bits(bits, offset + i, index, k)
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
        k = _list_bits(bits, offset + i, index, k)
        i += step
    return k
