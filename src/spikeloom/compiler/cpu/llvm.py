"""Vectors of 64 bytes in the functions that LLVM compiles: numba does not offer them, so that
intrinsics write the loops that need them. LLVM splits the vectors on processors with narrower ones.
"""

# pyright: reportArgumentType=false, reportCallIssue=false
from llvmlite import ir
from numba import njit

BITS = 512


@njit(error_model="numpy")
def lanes(out):
    """How many elements of `out` fit a vector."""
    return 64 // out.itemsize


def vector_of(context, array_type):
    """The vector of as many elements of such an array as fit."""
    element = context.get_value_type(array_type.dtype)
    return ir.VectorType(element, BITS // array_type.dtype.bitwidth)


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
    return store


def spread(builder, value, count):
    """A vector of `count` times the value."""
    nothing = ir.Constant(ir.VectorType(value.type, count), ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count)
    return builder.shuffle_vector(first, nothing, mask)


def as_floats(builder, vector):
    """16-bit lanes as the float32 that they are the upper half of; others as they are."""
    if not isinstance(vector.type.element, ir.IntType):
        return vector
    wide = ir.VectorType(ir.IntType(32), vector.type.count)
    bits = builder.shl(builder.zext(vector, wide), ir.Constant(wide, [16] * vector.type.count))
    return builder.bitcast(bits, ir.VectorType(ir.FloatType(), vector.type.count))
