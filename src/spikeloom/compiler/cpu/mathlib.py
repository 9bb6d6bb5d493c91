"""Functions that generated CPU kernels call: transcendentals that vectorise, and half precision.

LLVM cannot vectorise a call into the C library, so float32 kernels use polynomials (2 ulp, checked
in the tests); float64 kernels keep the C library. Half precision is converted bit by bit, rounding
to nearest even, equal to PyTorch on every pattern.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types  # type: ignore[attr-defined]
from numba.extending import intrinsic

f4 = np.float32
i4 = np.int32
u2 = np.uint16
u4 = np.uint32


def _bitcast(source: types.Type, target: types.Type, llvm: ir.Type) -> Any:
    """An intrinsic that reads the bits of one type as another of the same width."""

    @intrinsic
    def cast(typing_context, value):  # type: ignore[no-untyped-def]
        def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return builder.bitcast(args[0], llvm)

        return target(source), build

    return cast


bits_of_f4 = _bitcast(types.float32, types.uint32, ir.IntType(32))
f4_of_bits = _bitcast(types.uint32, types.float32, ir.FloatType())
f8_of_bits = _bitcast(types.int64, types.float64, ir.DoubleType())
f4_of_signed = _bitcast(types.int32, types.float32, ir.FloatType())
signed_of_f4 = _bitcast(types.float32, types.int32, ir.IntType(32))


def _pointer(target: types.Type) -> Any:
    """An intrinsic that takes an address, an int64, for a pointer to `target`."""

    @intrinsic
    def point(typing_context, address):  # type: ignore[no-untyped-def]
        def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        return types.CPointer(target)(types.int64), build

    return point


_i8_pointer = _pointer(types.int64)
_f8_pointer = _pointer(types.float64)
_f4_pointer = _pointer(types.float32)
_u2_pointer = _pointer(types.uint16)
_i4_pointer = _pointer(types.int32)
_ALL = 1 << 40
"""Elements of an array of which only the address is known: no index reaches its end."""


@njit
def words(address):
    """The parameters of a driver, eight bytes each."""
    return carray(_i8_pointer(address), (_ALL,))


@njit
def f8_array(address):
    return carray(_f8_pointer(address), (_ALL,))


@njit
def f4_array(address):
    return carray(_f4_pointer(address), (_ALL,))


@njit
def u2_array(address):
    """Half precision, as its bits."""
    return carray(_u2_pointer(address), (_ALL,))


@njit
def i4_array(address):
    return carray(_i4_pointer(address), (_ALL,))


@intrinsic
def load_f16(typing_context, value):  # type: ignore[no-untyped-def]
    """float16, given as its bits, to float32."""

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), build


@intrinsic
def store_f16(typing_context, value):  # type: ignore[no-untyped-def]
    """float32 to the bits of float16."""

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), build


@njit
def load_bf16(bits):
    """bfloat16, given as its bits, to float32: its bits are the upper half of the float's."""
    return f4_of_bits(u4(bits) << u4(16))


@njit
def store_bf16(value):
    """float32 to the bits of bfloat16: round to nearest even; every NaN becomes 0x7fc0."""
    bits = bits_of_f4(value)
    rounded = (bits + u4(0x7FFF) + ((bits >> u4(16)) & u4(1))) >> u4(16)
    return u2(u4(0x7FC0) if value != value else rounded)


@njit
def exp4(x):
    """e^x for float32: x = n ln 2 + r, |r| <= ln(2)/2, and a polynomial of degree 6 in r."""
    clamped = f4(88.72283) if x > f4(88.72283) else (f4(-103.97208) if x < f4(-103.97208) else x)
    n = np.floor(clamped * f4(1.4426950408889634) + f4(0.5))
    r = clamped - n * f4(0.693359375)
    r = r - n * f4(-2.12194440e-4)
    p = f4(1.9875691500e-4)
    p = p * r + f4(1.3981999507e-3)
    p = p * r + f4(8.3334519073e-3)
    p = p * r + f4(4.1665795894e-2)
    p = p * r + f4(1.6666665459e-1)
    p = p * r + f4(5.0000001201e-1)
    p = p * r * r + r + f4(1.0)
    # the power of two in two factors, so that subnormal results are reached without overflow
    half = i4(n) >> i4(1)
    rest = i4(n) - half
    y = p * f4_of_signed((half + i4(127)) << i4(23)) * f4_of_signed((rest + i4(127)) << i4(23))
    y = f4(np.inf) if x > f4(88.72283) else y
    return x if x != x else y


@njit
def log4(x):
    """Natural logarithm for float32: mantissa in [sqrt(1/2), sqrt(2)) and a polynomial of degree
    8.
    """
    subnormal = x < f4(1.1754944e-38)
    scaled = x * f4(8388608.0) if subnormal else x
    bits = signed_of_f4(scaled)
    e = f4(((bits >> i4(23)) & i4(0xFF)) - i4(126)) - (f4(23.0) if subnormal else f4(0.0))
    m = f4_of_signed((bits & i4(0x007FFFFF)) | i4(0x3F000000))
    low = m < f4(0.70710678)
    e = e - f4(1.0) if low else e
    z = (m + m - f4(1.0)) if low else (m - f4(1.0))
    p = f4(7.0376836292e-2)
    p = p * z + f4(-1.1514610310e-1)
    p = p * z + f4(1.1676998740e-1)
    p = p * z + f4(-1.2420140846e-1)
    p = p * z + f4(1.4249322787e-1)
    p = p * z + f4(-1.6668057665e-1)
    p = p * z + f4(2.0000714765e-1)
    p = p * z + f4(-2.4999993993e-1)
    p = p * z + f4(3.3333331174e-1)
    zz = z * z
    y = z * zz * p + e * f4(-2.12194440e-4) - f4(0.5) * zz
    y = z + y + e * f4(0.693359375)
    y = f4(np.inf) if x == f4(np.inf) else y
    y = f4(-np.inf) if x == f4(0.0) else y
    return f4(np.nan) if (x < f4(0.0) or x != x) else y


@njit
def log1p4(x):
    """log(1 + x) for float32, accurate near 0: the rounding of 1 + x is corrected."""
    y = f4(1.0) + x
    correction = (x - (y - f4(1.0))) / y
    exact = y == f4(np.inf) or y == f4(0.0)
    return log4(y) + (f4(0.0) if exact else correction)


@njit
def sigmoid4(x):
    """1 / (1 + e^-x) for float32."""
    return f4(1.0) / (f4(1.0) + exp4(-x))


@njit
def tanh4(x):
    """Hyperbolic tangent for float32: a polynomial for |x| < 0.625, else 1 - 2 / (e^2|x| + 1)."""
    z = abs(x)
    s = x * x
    p = f4(-5.70498872745e-3)
    p = p * s + f4(2.06390887954e-2)
    p = p * s + f4(-5.37397155531e-2)
    p = p * s + f4(1.33314422036e-1)
    p = p * s + f4(-3.33332819422e-1)
    small = p * s * x + x
    large = f4(1.0) - f4(2.0) / (exp4(z + z) + f4(1.0))
    large = -large if x < f4(0.0) else large
    return small if z < f4(0.625) else large


@njit
def erf4(x):
    """Error function for float32, by the C library: only the smooth mode of a surrogate needs
    it.
    """
    return f4(math.erf(x))


@njit
def exp8(x):
    return math.exp(x) if x < 709.782712893384 else (x if x != x else np.inf)


@njit
def log8(x):
    return math.log(x) if x > 0.0 else (-np.inf if x == 0.0 else np.nan)


@njit
def log1p8(x):
    return math.log1p(x) if x > -1.0 else (-np.inf if x == -1.0 else np.nan)


@njit
def sigmoid8(x):
    return 1.0 / (1.0 + exp8(-x))


@njit
def tanh8(x):
    return math.tanh(x)


@njit
def erf8(x):
    return math.erf(x)


@njit
def maximum(a, b):
    """The larger; NaN if either is (as torch.maximum)."""
    return a if (a > b or a != a) else b


@njit
def minimum(a, b):
    """The smaller; NaN if either is (as torch.minimum)."""
    return a if (a < b or a != a) else b


@njit
def remainder(a, b):
    """a modulo b with the sign of b, without rounding (as torch.remainder)."""
    r = np.fmod(a, b)
    return r + b if (r != 0 and ((r < 0) != (b < 0))) else r


@njit
def fill(target, value):
    """target[:] = value, written out: numba's slice assignment is ten times slower."""
    for i in range(target.size):
        target[i] = value


@njit
def copy(target, source):
    for i in range(target.size):
        target[i] = source[i]
