"""Which ATen operations a step may use, and what each becomes in the compiler's own graph.

`LOWERINGS` maps the name of an ATen overload to a function of the builder and the arguments.
Whatever is not in it is refused by name (`trace.py`), or runs eagerly.
"""

import math
from collections.abc import Callable
from typing import Any

from spikeloom.compiler.front.ir import Builder, Value

Argument = Any
Lowering = Callable[..., Value]


def _value(b: Builder, argument: Argument) -> Value:
    return argument if isinstance(argument, Value) else b.constant(argument)


def _plain(op: str) -> Lowering:
    """An operation whose arguments are all operands, in the same order."""
    return lambda b, *args: b.emit(op, *(_value(b, a) for a in args))


def _scaled(op: str) -> Lowering:
    """`add` and `sub` with PyTorch's `alpha` on the second operand."""

    def lower(b: Builder, left: Argument, right: Argument, alpha: float = 1) -> Value:
        scaled = _value(b, right)
        if alpha != 1:
            scaled = b.emit("mul", scaled, b.constant(alpha))
        return b.emit(op, _value(b, left), scaled)

    return lower


def _rsub(b: Builder, left: Argument, right: Argument, alpha: float = 1) -> Value:
    return _scaled("sub")(b, right, left, alpha)


def _div(b: Builder, left: Argument, right: Argument, rounding_mode: str | None = None) -> Value:
    top, bottom = _value(b, left), _value(b, right)
    quotient = b.emit("div", top, bottom)
    if rounding_mode == "floor":
        # as ATen: the quotient of what is left without the rest, 1 // 0.1 = 9 and not 10
        exact = b.emit("div", b.emit("sub", top, b.emit("remainder", top, bottom)), bottom)
        low = b.emit("floor", exact)
        rounded_up = b.emit("gt", b.emit("sub", exact, low), b.constant(0.5))
        low = b.emit("where", rounded_up, b.emit("add", low, b.constant(1.0)), low)
        return b.emit("where", b.emit("eq", bottom, b.constant(0.0)), quotient, low)
    if rounding_mode is not None:
        raise KeyError(f"aten::div with rounding_mode={rounding_mode!r}")
    return quotient


def _pow(b: Builder, base: Value, exponent: float) -> Value:
    """Small powers as products, as ATen computes them."""
    if exponent == 1:
        return base
    if exponent == 2:
        return b.emit("mul", base, base)
    if exponent == 3:
        return b.emit("mul", b.emit("mul", base, base), base)
    if exponent == -1:
        return b.emit("reciprocal", base)
    if exponent == -2:
        return b.emit("reciprocal", b.emit("mul", base, base))
    if exponent == 0.5:
        return b.emit("sqrt", base)
    return b.emit("pow", base, b.constant(exponent))


def _clamp(b: Builder, x: Value, low: Argument = None, high: Argument = None) -> Value:
    # comparisons with NaN are false, so NaN passes through, as it does in ATen; of bounds too
    if isinstance(low, Value):
        x, low = b.emit("maximum", x, low), None
    if isinstance(high, Value):
        x, high = b.emit("minimum", x, high), None
    if low is not None:
        low = _value(b, low)
        x = b.emit("where", b.emit("lt", x, low), low, x)
    if high is not None:
        high = _value(b, high)
        x = b.emit("where", b.emit("gt", x, high), high, x)
    return x


def _relu(b: Builder, x: Value) -> Value:
    return _clamp(b, x, 0.0)


def _threshold_backward(b: Builder, grad: Value, x: Value, threshold: float) -> Value:
    return b.emit("where", b.emit("le", x, b.constant(threshold)), b.constant(0.0), grad)


def _sigmoid_backward(b: Builder, grad: Value, y: Value) -> Value:
    return b.emit("mul", b.emit("mul", grad, b.emit("sub", b.constant(1.0), y)), y)


def _tanh_backward(b: Builder, grad: Value, y: Value) -> Value:
    return b.emit("mul", grad, b.emit("sub", b.constant(1.0), b.emit("mul", y, y)))


def _softplus(b: Builder, x: Value, beta: float = 1, threshold: float = 20) -> Value:
    scaled = b.emit("mul", x, b.constant(beta))
    soft = b.emit("div", b.emit("log1p", b.emit("exp", scaled)), b.constant(beta))
    return b.emit("where", b.emit("gt", scaled, b.constant(threshold)), x, soft)


def _softplus_backward(b: Builder, grad: Value, x: Value, beta: float, threshold: float) -> Value:
    scaled = b.emit("mul", x, b.constant(beta))
    soft = b.emit("mul", grad, b.emit("sigmoid", scaled))
    return b.emit("where", b.emit("gt", scaled, b.constant(threshold)), grad, soft)


def _lerp(b: Builder, start: Value, end: Value, weight: Argument) -> Value:
    return b.emit("add", start, b.emit("mul", _value(b, weight), b.emit("sub", end, start)))


def _addcmul(b: Builder, x: Value, y: Value, z: Value, value: float = 1) -> Value:
    product = b.emit("mul", y, z)
    return b.emit("add", x, product if value == 1 else b.emit("mul", product, b.constant(value)))


def _masked_fill(b: Builder, x: Value, mask: Value, value: Argument) -> Value:
    return b.emit("where", mask, _value(b, value), x)


def _to_copy(b: Builder, x: Value, **options: Any) -> Value:
    dtype = options.get("dtype")
    if dtype is None:
        return x
    name = str(dtype)
    if name == "torch.bool":
        return b.emit("cast_bool", x)
    if name == ("torch.float64" if b.double else "torch.float32"):
        return b.emit("cast_float", x)
    raise KeyError(f"a conversion to {name}")


def _same(b: Builder, x: Value, *rest: Argument, **options: Any) -> Value:
    return x


def _constant(number: float) -> Lowering:
    return lambda b, *args, **options: b.constant(number)


def _filled(b: Builder, shape_or_like: Argument, number: float, **options: Any) -> Value:
    return b.constant(number)


def _logical(op: str) -> Lowering:
    return lambda b, *args: b.emit(op, *(b.emit("cast_bool", _value(b, a)) for a in args))


_ELEMENTWISE = (
    *("neg", "reciprocal", "abs", "sqrt", "rsqrt", "exp", "log", "log1p", "sigmoid", "tanh", "erf"),
    *("atan", "sin", "cos", "floor", "sign", "maximum", "minimum", "isnan"),
)
LOWERINGS: dict[str, Lowering] = {
    **{f"{name}.default": _plain(name) for name in _ELEMENTWISE},
    **{
        f"{name}.{overload}": _plain(name)
        for name in ("ge", "gt", "le", "lt", "eq", "ne")
        for overload in ("Scalar", "Tensor")
    },
    **{
        f"{kind}_{op}.{overload}": _logical(op)
        for kind, overload in (("logical", "default"), ("bitwise", "Tensor"))
        for op in ("and", "or", "xor")
    },
    "logical_and_.default": _logical("and"),
    "logical_not.default": _logical("not"),
    "bitwise_not.default": _logical("not"),
    "add.Tensor": _scaled("add"),
    "add.Scalar": _scaled("add"),
    "sub.Tensor": _scaled("sub"),
    "rsub.Scalar": _rsub,
    "rsub.Tensor": _rsub,
    "mul.Tensor": _plain("mul"),
    "mul.Scalar": _plain("mul"),
    **{f"div.{overload}": _div for overload in ("Tensor", "Scalar", "Tensor_mode")},
    "sigmoid_backward.default": _sigmoid_backward,
    "tanh_backward.default": _tanh_backward,
    "sgn.default": _plain("sign"),
    "pow.Tensor_Scalar": _pow,
    "remainder.Scalar": _plain("remainder"),
    **{f"clamp{which}": _clamp for which in (".default", ".Tensor", "_min.default")},
    "clamp_max.default": lambda b, x, high: _clamp(b, x, None, high),
    "relu.default": _relu,
    "threshold_backward.default": _threshold_backward,
    "softplus.default": _softplus,
    "softplus_backward.default": _softplus_backward,
    "lerp.Scalar": _lerp,
    "lerp.Tensor": _lerp,
    "addcmul.default": _addcmul,
    "where.self": _plain("where"),
    "masked_fill.Scalar": _masked_fill,
    "masked_fill.Tensor": _masked_fill,
    # what PyTorch's own formulas write in place, on tensors that they just made (see trace.py)
    "masked_fill_.Scalar": _masked_fill,
    "fill_.Scalar": _filled,
    "sub_.Tensor": _scaled("sub"),
    "add_.Tensor": _scaled("add"),
    "mul_.Tensor": _plain("mul"),
    "_to_copy.default": _to_copy,
    **{f"{name}.default": _same for name in ("detach", "alias", "clone", "lift_fresh_copy")},
    **{
        f"{kind.format(name)}.default": _constant(number)
        for name, number in (("zeros", 0.0), ("ones", 1.0))
        for kind in ("{}", "{}_like", "new_{}")
    },
    "empty_like.default": _constant(math.nan),
    "full_like.default": _filled,
    "full.default": _filled,
    "scalar_tensor.default": lambda b, number, **options: b.constant(number),
}
