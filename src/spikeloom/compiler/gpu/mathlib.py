"""Functions that generated Triton kernels call, in float32 and float64 alike.

Triton has exp, log, erf, sin and cos; what it lacks is made of them here, by formulas that lose no
digits. The vendor's library is not used, since Triton's interpreter, in which kernels are tested,
cannot call it.
"""

import triton
import triton.language as tl


@triton.jit
def sign(x):
    """1, -1, or 0 (also for NaN)."""
    return (x > 0).to(x.dtype) - (x < 0).to(x.dtype)


@triton.jit
def maximum(a, b):
    """The larger; NaN if either is (as torch.maximum)."""
    return tl.where((a > b) | (a != a), a, b)


@triton.jit
def minimum(a, b):
    """The smaller; NaN if either is (as torch.minimum)."""
    return tl.where((a < b) | (a != a), a, b)


@triton.jit
def remainder(a, b):
    """a modulo b with the sign of b (as torch.remainder)."""
    r = a % b
    return tl.where((r != 0) & ((r < 0) != (b < 0)), r + b, r)


@triton.jit
def log1p(x):
    """log(1 + x); the rounding of 1 + x is made good by the factor x / ((1 + x) - 1) (Kahan)."""
    y = 1 + x
    plain = (y == 1) | (y == float("inf"))
    return tl.where(plain, tl.where(y == 1, x, y), tl.log(y) * (x / tl.where(plain, 1, y - 1)))


@triton.jit
def expm1(x):
    """e^x - 1; the rounding of e^x is made good by the factor x / log(e^x) (Kahan)."""
    y = tl.exp(x)
    exact = (y == 1) | (y == 0) | (y == float("inf"))
    corrected = (y - 1) * (x / tl.where(exact, 1, tl.log(tl.where(exact, 2, y))))
    return tl.where(y == 1, x, tl.where(exact, y - 1, corrected))


@triton.jit
def tanh(x):
    """Hyperbolic tangent: m / (m + 2) with m = e^(2|x|) - 1, and the sign of x."""
    z = tl.abs(x)
    m = expm1(2 * tl.where(z > 20, 20, z))
    y = m / (m + 2)
    y = tl.where(x < 0, -y, y)
    return tl.where(x != x, x, y)


@triton.jit
def half_angle(y):
    """tan(a / 2) for y = tan(a)."""
    return y / (1 + tl.sqrt(1 + y * y))


@triton.jit
def atan(x):
    """Arc tangent: 1/x for |x| > 1, an eighth of the angle, and the power series."""
    z = tl.abs(x)
    y = half_angle(half_angle(half_angle(tl.where(z > 1, 1 / tl.where(z > 1, z, 1), z))))
    s = y * y
    p = 1.0 / 17 - s * (1.0 / 19)
    p = 1.0 / 13 - s * (1.0 / 15 - s * p)
    p = 1.0 / 9 - s * (1.0 / 11 - s * p)
    p = 1.0 / 5 - s * (1.0 / 7 - s * p)
    y = 8 * y * (1 - s * (1.0 / 3 - s * p))
    y = tl.where(z > 1, 1.5707963267948966 - y, y)
    y = tl.where(x < 0, -y, y)
    return tl.where(x != x, x, y)


@triton.jit
def power(x, exponent):
    """x to a constant power; NaN for a finite negative x unless the exponent is a whole number."""
    y = tl.exp(exponent * tl.log(tl.abs(x)))
    whole = tl.floor(exponent) == exponent
    odd = whole & (tl.floor(exponent * 0.5) * 2 != exponent)
    negative = tl.where(whole | (x == -float("inf")), tl.where(odd, -y, y), float("nan"))
    y = tl.where(x < 0, negative, y)
    return tl.where(exponent == 0, 1, y)
