"""3x3 convolutions by the minimal algorithm F(2x2, 3x3) of Winograd (Lavin and Gray, 2016).

A tile of 2x2 outputs takes 16 products of each pair of channels in place of 36:

    y = A' [ (G w G') * (B' d B) ] A      d: the 4x4 inputs that the tile sees

Sums over channels are 16 matrix products, between a transformation of the inputs and one of the
results that add and subtract alone. For images with the channel last in memory.
"""

# pyright: reportArgumentType=false, reportCallIssue=false
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from spikeloom.compiler.cpu.jit import driver
from spikeloom.compiler.cpu.llvm import pointer, put, unaligned, vector_of
from spikeloom.compiler.cpu.products import VECTORS, product12


def _vectors_of(builder, count, vector):
    """Loops over `count` elements by whole vectors: gives the number of the first."""
    return cgutils.for_range_slice(
        builder, ir.Constant(count.type, 0), count, ir.Constant(count.type, vector.count)
    )


@intrinsic
def tile_in(typing_context, g, at, line, channels, h, w, high, wide, zeros, out, goal, apart):
    """B' d B of the 4x4 pixels from row h, column w on (`g[at]` is their first; those outside
    `high` x `wide` are zero): 16 rows of `out`, `apart` elements one from the next."""
    where = types.int64

    def generate(context, builder, signature, arguments):
        g_type, zeros_type, out_type = (signature.args[i] for i in (0, 8, 9))
        g, at, line, channels, h, w, high, wide, zeros, out, goal, apart = arguments
        vector, word = vector_of(context, g_type), ir.IntType(64)
        nothing = pointer(context, builder, zeros_type, zeros, ir.Constant(word, 0))

        def inside(start, i, end):
            place = builder.add(start, ir.Constant(word, i))
            return builder.icmp_unsigned("<", place, end)

        rows = [inside(h, i, high) for i in range(4)]
        columns = [inside(w, j, wide) for j in range(4)]
        sources = []
        for i in range(4):
            for j in range(4):
                offset = builder.add(
                    builder.mul(line, ir.Constant(word, i)),
                    builder.mul(channels, ir.Constant(word, j)),
                )
                here = pointer(context, builder, g_type, g, builder.add(at, offset))
                both = builder.and_(rows[i], columns[j])
                sources.append(builder.select(both, here, nothing))
        target = pointer(context, builder, out_type, out, goal)
        with _vectors_of(builder, channels, vector) as (c, _):
            d = [unaligned(builder, builder.gep(source, [c]), vector) for source in sources]
            add, sub = builder.fadd, builder.fsub

            def turned(a, b, c, d):
                return [sub(a, c), add(b, c), sub(c, b), sub(b, d)]

            down = [turned(*(d[4 * i + j] for i in range(4))) for j in range(4)]
            for i in range(4):
                for j, value in enumerate(turned(*(down[j][i] for j in range(4)))):
                    step = builder.mul(apart, ir.Constant(word, 4 * i + j))
                    put(builder, value, builder.gep(target, [builder.add(step, c)]))
        return context.get_dummy_value()

    arguments = (g, *[where] * 7, zeros, out, where, where)
    return types.none(*arguments), generate


@intrinsic
def tile_out(typing_context, sums, at, apart, channels, out, goal, line, tall, broad, spare):
    """A' m A of 16 rows of `sums`: 2x2 pixels from `out[goal]` on, of which `tall` and `broad` say
    whether there is a second row and column (else: into `spare`)."""
    where = types.int64

    def generate(context, builder, signature, arguments):
        sums_type, out_type = signature.args[0], signature.args[4]
        sums, at, apart, channels, out, goal, line, tall, broad, spare = arguments
        vector, word = vector_of(context, sums_type), ir.IntType(64)
        none = pointer(context, builder, out_type, spare, ir.Constant(word, 0))
        source = pointer(context, builder, sums_type, sums, at)
        zero = ir.Constant(word, 0)
        second = [builder.icmp_signed("!=", each, zero) for each in (tall, broad)]
        targets = []
        for i in range(2):
            for j in range(2):
                place = goal
                if i:
                    place = builder.add(place, line)
                if j:
                    place = builder.add(place, channels)
                address = pointer(context, builder, out_type, out, place)
                if i:
                    address = builder.select(second[0], address, none)
                if j:
                    address = builder.select(second[1], address, none)
                targets.append(address)
        with _vectors_of(builder, channels, vector) as (c, _):
            m = []
            for k in range(16):
                step = builder.add(builder.mul(apart, ir.Constant(word, k)), c)
                m.append(unaligned(builder, builder.gep(source, [step]), vector))
            add, sub = builder.fadd, builder.fsub

            def turned(a, b, c, d):
                return [add(add(a, b), c), sub(sub(b, c), d)]

            down = [turned(*(m[4 * i + j] for i in range(4))) for j in range(4)]
            for i in range(2):
                for j, value in enumerate(turned(*(down[j][i] for j in range(4)))):
                    put(builder, value, builder.gep(targets[2 * i + j], [c]))
        return context.get_dummy_value()

    arguments = (sums, *[where] * 3, out, *[where] * 4, out)
    return types.none(*arguments), generate


@intrinsic
def weight_in(typing_context, w, at, apart, channels, out, goal, panel, further):
    """G w G' of the taps of one output channel, `[9, channels]` at `w[at]`, turned around: 16 rows
    of `out`, `further` elements one from the next; the panels of `VECTORS` vectors of a row are
    `panel` elements apart."""
    where = types.int64

    def generate(context, builder, signature, arguments):
        w_type, out_type = signature.args[0], signature.args[4]
        w, at, apart, channels, out, goal, panel, further = arguments
        vector, word = vector_of(context, w_type), ir.IntType(64)
        source = pointer(context, builder, w_type, w, at)
        target = pointer(context, builder, out_type, out, goal)
        half = ir.Constant(vector, [0.5] * vector.count)
        with _vectors_of(builder, channels, vector) as (c, _):
            taps = []
            for tap in range(9):
                step = builder.add(builder.mul(apart, ir.Constant(word, 8 - tap)), c)
                taps.append(unaligned(builder, builder.gep(source, [step]), vector))

            def turned(a, b, c):
                ends = builder.fadd(a, c)
                both = [combine(ends, b) for combine in (builder.fadd, builder.fsub)]
                return [a, *(builder.fmul(half, each) for each in both), c]

            down = [turned(*(taps[3 * i + j] for i in range(3))) for j in range(3)]
            width = ir.Constant(word, VECTORS * vector.count)
            place = builder.mul(builder.udiv(c, width), panel)
            place = builder.add(place, builder.urem(c, width))
            for i in range(4):
                for j, value in enumerate(turned(*(down[j][i] for j in range(3)))):
                    step = builder.mul(further, ir.Constant(word, 4 * i + j))
                    put(builder, value, builder.gep(target, [builder.add(step, place)]))
        return context.get_dummy_value()

    return types.none(w, where, where, where, out, where, where, where), generate


@driver
def transform(first, last, w, table, deep, channels, panel):
    """The table of `convolve` for outputs `first` to `last` of `w` `[deep, 9, channels]`."""
    for o in range(first, last):
        weight_in(
            w, o * 9 * channels, channels, channels, table, o * panel, deep * panel, deep * channels
        )


@driver
def convolve(
    first, last, g, out, table, zeros, spare, inputs, sums, some, high, wide, deep, height, width,
    channels, before_h, before_w, panel, gap,
):  # fmt: skip
    """Tiles `first * some` to `last * some`, `some` each, of images `[height, width, channels]`
    of `out`, from images `[high, wide, deep]` of `g`. The patch of a tile begins `before` pixels
    ahead of it. `table` `[16, panels, deep, panel]`: the weights, columns in panels. Rows of
    `inputs` and `sums` have a `gap` between them: not all begin at the same place of the cache.
    """
    rows = (height + 1) // 2
    columns = (width + 1) // 2
    each = rows * columns
    pitch = deep + gap
    step = channels + gap
    total = out.size // (height * width * channels) * each
    for part in range(first, last):
        begin = part * some
        count = min(some, total - begin)
        for r in range(count):
            n = (begin + r) // each
            h = (begin + r) % each // columns * 2 - before_h
            w = (begin + r) % columns * 2 - before_w
            at = ((n * high + h) * wide + w) * deep
            tile_in(
                g, at, wide * deep, deep, h, w, high, wide, zeros,
                inputs, r * pitch, some * pitch,
            )  # fmt: skip
        for k in range(16):
            for column in range(0, channels, panel):
                for r in range(0, count, 12):
                    product12(
                        inputs, (k * some + r) * pitch, pitch, deep,
                        table, (k * channels + column) * deep, panel,
                        sums, (k * some + r) * step + column, step,
                    )  # fmt: skip
        for r in range(count):
            n = (begin + r) // each
            h = (begin + r) % each // columns * 2
            w = (begin + r) % columns * 2
            goal = ((n * height + h) * width + w) * channels
            tile_out(
                sums, r * step, some * step, channels, out, goal, width * channels,
                h + 1 < height, w + 1 < width, spare,
            )  # fmt: skip
