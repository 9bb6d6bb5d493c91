"""Writing a graph down as the body of a numba loop.

A constant is always given its type: a bare Python float would make the line double precision, with
half as many lanes and other bits.
"""

import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from spikeloom.compiler import emit
from spikeloom.compiler.emit import indent
from spikeloom.compiler.front.ir import Graph, Value
from spikeloom.compiler.front.trace import Trace

Storage = Literal["f4", "f8", "bf16", "f16"]


@dataclass(frozen=True)
class Variant:
    """What a kernel is specialised for, besides its step. Sizes and strides are ordinary arguments.

    `vectors`: the coefs that are vectors along a segment (vec nest); the others are scalars.
    `static`: the input is one time step, presented again and again. `record`: sequences to write.
    `gradients`: the inputs whose gradients the backward kernel writes (`x`, coefs; those of the
    initial states are always at hand).
    """

    storage: Storage
    nest: Literal["row", "vec"]
    vectors: frozenset[str] = frozenset()
    static: bool = False
    record: tuple[str, ...] = ()
    gradients: frozenset[str] = frozenset()


_EXPRESSIONS = {
    **emit.EXPRESSIONS,
    "div": "{0} / {1}",
    "reciprocal": "ONE / {0}",
    "abs": "abs({0})",
    "sqrt": "np.sqrt({0})",
    "rsqrt": "ONE / np.sqrt({0})",
    "floor": "np.floor({0})",
    "sign": "ONE if {0} > ZERO else (-ONE if {0} < ZERO else ZERO)",
    "sin": "REAL(math.sin({0}))",
    "cos": "REAL(math.cos({0}))",
    "atan": "REAL(math.atan({0}))",
    "pow": "{0} ** {1}",
    "xor": "{0} != {1}",
    "not": "not {0}",
    "cast_float": "ONE if {0} else ZERO",
    "cast_bool": "{0} != ZERO",
    "where": "{1} if {0} else {2}",
}
_HELPERS = {"maximum": 2, "minimum": 2, "remainder": 2}
_HELPERS_BY_PRECISION = ("exp", "log", "log1p", "sigmoid", "tanh", "erf")


class Writer(emit.ModuleWriter):
    """One module's text: names, loads and stores, the lines of graphs, and the helpers they
    need.
    """

    def __init__(self, trace: Trace, variant: Variant) -> None:
        super().__init__(trace, variant.gradients)
        self.variant = variant
        self.vectors = [self.coef(name) for name in self.leaves if name in variant.vectors]
        """The kernel's names of the coefs whose gradients are vectors; `scalars`: sums."""
        self.scalars = [self.coef(name) for name in self.leaves if name not in variant.vectors]
        self.helpers |= {"fill", "copy", "words", "f8_of_bits"}
        self.helpers |= {f"{STORED_AS[variant.storage]}_array", "f8_array"}
        self.helpers.add("f8_array as real_array" if trace.double else "f4_array as real_array")
        self.calls: dict[str, tuple[str, ...]] = {}
        """What the module calls, by the module that it is from."""

    def load(self, array: str, at: str) -> str:
        """An element of an array in storage precision."""
        if self.variant.storage in ("bf16", "f16"):
            self.helpers.add(f"load_{self.variant.storage}")
            return f"load_{self.variant.storage}({array}[{at}])"
        return f"{array}[{at}]"

    def store(self, expression: str) -> str:
        """A value in storage precision."""
        if self.variant.storage in ("bf16", "f16"):
            self.helpers.add(f"store_{self.variant.storage}")
            return f"store_{self.variant.storage}({expression})"
        return expression

    def lines(self, graph: Graph, inputs: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        """The lines that compute the graph, and the expression in which each output is found."""
        return emit.lines(graph, inputs, self._template, self._constant)

    def _template(self, op: str) -> str:
        if op in _EXPRESSIONS:
            return _EXPRESSIONS[op]
        if op in _HELPERS_BY_PRECISION:
            return self.call(op + ("8" if self.trace.double else "4"), 1)
        return self.call(op, _HELPERS[op])

    def _constant(self, value: Value) -> str:
        if value.dtype == "bool":
            return repr(bool(value.number))
        text = repr(value.number)
        text = {"inf": "np.inf", "-inf": "-np.inf", "nan": "np.nan"}.get(text, text)
        return text if self.trace.double else f"f4({text})"

    def module(self, title: str, *functions: str) -> str:
        """The whole module."""
        imports = ", ".join(sorted(self.helpers))
        calls = "".join(
            f"from spikeloom.{module} import {', '.join(names)}\n"
            for module, names in self.calls.items()
        )
        real = "np.float64" if self.trace.double else "np.float32"
        name = self.trace.signature.name
        header = f'''"""{title} of {name}, written by spikeloom's step compiler."""

import math

import numpy as np

from spikeloom.compiler.cpu.jit import adjoint, driver, segment
from spikeloom.compiler.cpu.mathlib import {imports}
{calls}
REAL = {real}
f4 = np.float32
u8 = np.uint64
ONE = REAL(1.0)
ZERO = REAL(0.0)
'''
        return "\n\n".join((header, *functions))


Parameter = tuple[str, str]
"""A driver's parameter, and how it is read: as an `integer`, a `flag`, a `real`, or as the address
of an array of `storage`, `reals`, `sums` (float64) or `places` (int32)."""


def words_of(parameters: Iterable[Parameter], values: Mapping[str, int | float]) -> "array[int]":
    """The words of a driver's parameters, eight bytes each; 0 for those without a value."""
    words = array("q")
    for name, _ in parameters:
        value = values.get(name, 0)
        words.frombytes(struct.pack("d" if isinstance(value, float) else "q", value))
    return words


def driver(name: str, parameters: list[Parameter], storage: Storage, body: list[str]) -> str:
    """The function that Python calls: `words_at` is the address of its parameters, a word each, and
    `scratch_at` that of scratch memory."""
    arrays = {"storage": STORED_AS[storage], "reals": "real", "sums": "f8", "places": "i4"}
    lines = ["word = words(words_at)", "scratch = real_array(scratch_at)"]
    for index, (parameter, kind) in enumerate(parameters):
        word = f"word[{index}]"
        if kind in arrays:
            word = f"{arrays[kind]}_array({word})"
        elif kind != "integer":
            word = f"{word} != 0" if kind == "flag" else f"REAL(f8_of_bits({word}))"
        lines.append(f"{parameter} = {word}")
    return function("driver", name, ["words_at", "first", "last", "scratch_at"], [*lines, *body])


STORED_AS: dict[Storage, str] = {"f4": "f4", "f8": "f8", "bf16": "u2", "f16": "u2"}


def function(decorator: str, name: str, arguments: list[str], body: list[str]) -> str:
    """A decorated function, an argument a line."""
    head = f"@{decorator}\ndef {name}(\n    " + ",\n    ".join(arguments) + ",\n):\n"
    return head + "\n".join(indent(body)) + "\n"


class Segment:
    """A function over `m` contiguous elements of one time step, and the text that calls it.

    Arrays are passed whole, each with an unsigned offset: a slice would be counted in and out for
    every call (twice the cost of a segment of 50 elements), and a signed offset would be checked
    for wrapping, which stops vectorisation.
    """

    def __init__(self, decorator: str, name: str) -> None:
        self.decorator = decorator
        self.name = name
        self.parameters = ["m"]
        self.arguments = ["u8(m)"]

    def array(self, parameter: str, whole: str, offset: str) -> str:
        """An array argument: `whole`, read from `offset` on. Returns the index of element i."""
        self.parameters += [parameter, f"{parameter}at"]
        self.arguments += [whole, f"u8({offset})"]
        return f"{parameter}at + i"

    def scalar(self, parameter: str, value: str) -> None:
        self.parameters.append(parameter)
        self.arguments.append(value)

    def text(self, body: list[str], sums: Sequence[str] = ()) -> str:
        """The function, whose result are the variables `sums` that `body` adds to."""
        zeros, result = [f"{name} = ZERO" for name in sums], ", ".join(sums) or "None"
        loop = [*zeros, "for i in range(m):", *indent(body), f"return {result}"]
        return function(self.decorator, self.name, self.parameters, loop)

    def call(self, sums: Sequence[str] = ()) -> list[str]:
        results = f"{', '.join(sums)} = " if sums else ""
        return [f"{results}{self.name}(", *indent([f"{a}," for a in self.arguments]), ")"]
