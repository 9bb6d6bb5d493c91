"""Products of matrices that are not sparse, in kernels: a block of the result stays in vector
registers while its sums are made.
"""

# pyright: reportArgumentType=false, reportCallIssue=false
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from spikeloom.compiler.cpu.jit import sums
from spikeloom.compiler.cpu.llvm import lanes, pointer, put, spread, unaligned, vector_of
from spikeloom.compiler.cpu.rows import add_row

u8 = np.uint64
VECTORS = 2
"""Of columns of a product that registers hold at a time."""


def _small_product(count):
    """The intrinsic that computes `count` rows by `VECTORS` vectors of columns."""

    def generate(context, builder, signature, arguments):
        left_type, right_type, out_type = (signature.args[i] for i in (0, 4, 7))
        left, at, pitch, depth, right, right_at, apart, out, goal, step = arguments
        vector, word = vector_of(context, out_type), ir.IntType(64)
        lanes = vector.count
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
        with cgutils.for_range(builder, depth) as loop:
            here = builder.gep(b, [builder.mul(loop.index, apart)])
            columns = [
                unaligned(builder, builder.gep(here, [ir.Constant(word, v * lanes)]), vector)
                for v in range(VECTORS)
            ]
            for row, before in zip(rows, sums, strict=True):
                value = builder.load(builder.gep(row, [loop.index]))
                factor = spread(builder, value, lanes)
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
            source = first + n * inputs
            goal = at + n * width + column
            if n + 8 <= count:
                _product8(values, source, inputs, inputs, rows, column, width, out, goal, width)
                n += 8
            else:
                _product1(values, source, inputs, inputs, rows, column, width, out, goal, width)
                n += 1
    if whole < width:
        for n in range(count):
            goal = at + n * width + whole
            for k in range(width - whole):
                out[u8(goal + k)] = 0
            for i in range(inputs):
                value = values[u8(first + n * inputs + i)]
                add_row(u8(width - whole), out, u8(goal), rows, u8(i * width + whole), value)
