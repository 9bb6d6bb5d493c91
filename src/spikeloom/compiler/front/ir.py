"""The compiler's own small graph: scalar values, one per element, in the order they are computed.

A `Value` is an operation on other values; equal operations are the same value (common
subexpressions never exist twice). Every rewrite keeps the bits of the forward pass.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

DType = Literal["float", "bool"]


@dataclass(frozen=True, eq=False)
class Value:
    """One scalar of the step: an input, a constant, or an operation on other values."""

    op: str
    args: tuple["Value", ...] = ()
    dtype: DType = "float"
    name: str = ""
    """The name of an input; empty otherwise."""
    number: float | None = None
    """The number of a constant."""

    @property
    def is_constant(self) -> bool:
        return self.number is not None


@dataclass
class Graph:
    """Values from named inputs to named outputs."""

    inputs: tuple[str, ...]
    outputs: dict[str, Value]
    order: list[Value] = field(default_factory=list)
    """Every operation that an output needs, each after its arguments; inputs and constants left
    out.
    """

    def __post_init__(self) -> None:
        self.order = _sorted(self.outputs.values())

    def text(self) -> str:
        """One line per operation; equal graphs have equal texts."""
        names = {id(value): f"t{i}" for i, value in enumerate(self.order)}

        def show(value: Value) -> str:
            if value.is_constant:
                return repr(value.number)
            return value.name or names[id(value)]

        lines = [f"{names[id(v)]} = {v.op}({', '.join(map(show, v.args))})" for v in self.order]
        lines += [f"return {name} = {show(value)}" for name, value in self.outputs.items()]
        return "\n".join([f"inputs {', '.join(self.inputs)}", *lines])

    def select(self, names: Iterable[str]) -> "Graph":
        """The graph of these outputs alone; what only the others needed is gone."""
        return Graph(self.inputs, {name: self.outputs[name] for name in names})


class Builder:
    """Makes values; equal ones once. Constants are folded in the precision that the kernel computes
    in.
    """

    def __init__(self, double: bool) -> None:
        self.double = double
        self._values: dict[tuple[object, ...], Value] = {}

    def input(self, name: str) -> Value:
        return self._once(("input", name), lambda: Value("input", name=name))

    def constant(self, number: float | int | bool) -> Value:
        if isinstance(number, bool):
            return self._once(("bool", number), lambda: Value("const", (), "bool", "", number))
        rounded = float(number) if self.double else float(np.float32(number))
        # repr keeps 0.0 and -0.0 apart, and makes every NaN the same constant
        return self._once(
            ("const", repr(rounded)), lambda: Value("const", (), "float", "", rounded)
        )

    def emit(self, op: str, *args: Value) -> Value:
        """The value of `op` on `args`, simplified where that changes no bit."""
        dtype: DType = "bool" if op in BOOLEAN else "float"
        if op == "cast_float" and args[0].dtype == "float":
            return args[0]
        if op == "cast_bool" and args[0].dtype == "bool":
            return args[0]
        if op in ("add", "mul") and all(a.dtype == "bool" for a in args):
            # PyTorch's sum and product of truth values are truth values
            return self.emit("or" if op == "add" else "and", *args)
        if op in ARITHMETIC:
            args = tuple(self.emit("cast_float", a) if a.dtype == "bool" else a for a in args)
        if op == "where":
            return self._where(*args)
        if all(a.is_constant for a in args) and (folded := self._fold(op, args)) is not None:
            return folded
        if op == "neg" and args[0].op == "neg":
            return args[0].args[0]
        if op in ("mul", "div") and args[1].number == 1.0:
            return args[0]
        if op == "mul" and args[0].number == 1.0:
            return args[1]
        key = (op, *(id(a) for a in args))
        return self._once(key, lambda: Value(op, args, dtype))

    def _where(self, condition: Value, a: Value, b: Value) -> Value:
        if a.dtype != b.dtype:
            a, b = self.emit("cast_float", a), self.emit("cast_float", b)
        if a is b:
            return a
        key = ("where", id(condition), id(a), id(b))
        return self._once(key, lambda: Value("where", (condition, a, b), a.dtype))

    def _fold(self, op: str, args: tuple[Value, ...]) -> Value | None:
        kind = np.float64 if self.double else np.float32
        numbers = [kind(a.number) for a in args]
        with np.errstate(all="ignore"):
            if op in _FOLD:
                return self.constant(float(_FOLD[op](*numbers)))
        if op == "cast_float":
            return self.constant(float(numbers[0]))
        return None

    def _once(self, key: tuple[object, ...], make: Callable[[], Value]) -> Value:
        if key not in self._values:
            self._values[key] = make()
        return self._values[key]


BOOLEAN = frozenset(
    ("ge", "gt", "le", "lt", "eq", "ne", "and", "or", "xor", "not", "cast_bool", "isnan")
)
ARITHMETIC = frozenset(
    (
        *("add", "sub", "mul", "div", "neg", "reciprocal", "abs", "sqrt", "rsqrt", "exp", "log"),
        *("log1p", "sigmoid", "tanh", "erf", "atan", "sin", "cos", "floor", "sign", "pow"),
        *("maximum", "minimum", "remainder"),
    )
)
_FOLD: dict[str, Callable[..., np.floating]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
}


def _sorted(outputs: Iterable[Value]) -> list[Value]:
    """Depth first, arguments before what uses them; iterative, since a step may be a long chain."""
    order: list[Value] = []
    done: set[int] = set()
    for output in outputs:
        stack = [(output, False)]
        while stack:
            value, ready = stack.pop()
            if id(value) in done or value.op in ("input", "const"):
                continue
            if ready:
                done.add(id(value))
                order.append(value)
            else:
                stack.append((value, True))
                stack.extend((arg, False) for arg in reversed(value.args))
    return order
