"""Writing a graph down as lines of a Triton kernel.

In the forward step division and square root are rounded as IEEE 754 asks, and the launch forbids
fused multiply-add, so that the spikes of a float32 neuron are those of PyTorch. The adjoint may be
a rounding off: the faster forms, within 2 ulp, do for it.
"""

import math
from dataclasses import dataclass

from spikeloom.compiler import emit
from spikeloom.compiler.emit import indent
from spikeloom.compiler.front.ir import Graph, Value
from spikeloom.compiler.front.trace import Trace
from spikeloom.compiler.gpu import loops
from spikeloom.compiler.plan.geometry import Nest

_EXPRESSIONS = {
    **emit.EXPRESSIONS,
    **{
        op: f"tl.{op}({{0}})"
        for op in ("abs", "exp", "log", "sigmoid", "erf", "floor", "sin", "cos")
    },
    "xor": "{0} ^ {1}",
    "not": "~{0}",
    "cast_bool": "{0} != 0",
    "where": "tl.where({0}, {1}, {2})",
}
_ROUNDED = {
    "div": "tl.div_rn({0}, {1})",
    "sqrt": "tl.sqrt_rn({0})",
    "reciprocal": "tl.div_rn({one}, {0})",
    "rsqrt": "tl.div_rn({one}, tl.sqrt_rn({0}))",
}
"""Exact in float32; in float64 the plain forms are."""
_PLAIN = {
    "div": "{0} / {1}",
    "sqrt": "tl.sqrt({0})",
    "reciprocal": "{one} / {0}",
    "rsqrt": "{one} / tl.sqrt({0})",
}
_HELPERS = {"sign": 1, "log1p": 1, "tanh": 1, "atan": 1}
_HELPERS |= {"maximum": 2, "minimum": 2, "remainder": 2, "power": 2}
"""What `mathlib` has, and of how many arguments."""


@dataclass(frozen=True)
class Variant:
    """What a kernel is specialised for, besides its step. Sizes and strides are ordinary arguments.

    `rest`: the states before the first step, where none are given (`starts`). `flat`, `quads`: see
    `loops.row_tile`. `wide`: a time step has 2^31 neurons or more. `vectors`: the coefs that are
    vectors along a row. `static`: the input is one time step, presented again and again.

    Of the forward kernel: `finals`: the last states are written. `record`: sequences to write.

    Of the backward kernel: `gradients`: the inputs whose gradients are written (`x`, coefs).
    `grad_finals`: gradients come from the last states. `grad_starts`: those of the initial states
    are written. `K`: time steps of a segment. `whole`: there is one segment. `ragged`: the last
    segment is shorter.
    """

    nest: Nest
    rest: tuple[float, ...]
    flat: bool = False
    quads: bool = False
    wide: bool = False
    vectors: frozenset[str] = frozenset()
    static: bool = False
    starts: bool = False
    finals: bool = False
    record: tuple[str, ...] = ()
    gradients: frozenset[str] = frozenset()
    grad_finals: bool = False
    grad_starts: bool = False
    K: int = 1
    whole: bool = False
    ragged: bool = False

    @property
    def index(self) -> str:
        return "tl.int64" if self.wide else "tl.int32"

    @property
    def writes_gx_by_step(self) -> bool:
        return "x" in self.gradients and not self.static


class Writer(emit.ModuleWriter):
    """One module's text: the lines of graphs, their constants, and the helpers they call.

    Constants have the shape `unit`, which is one neuron in as many axes as a tile has.
    """

    def __init__(self, trace: Trace, variant: Variant) -> None:
        super().__init__(trace, variant.gradients)
        self.variant = variant
        self.shape, self.unit = loops.shape(variant.nest), loops.unit(variant.nest)
        self.real = "tl.float64" if trace.double else "tl.float32"
        self._constants: dict[str, str] = {}

    def spread(self, expression: str) -> str:
        """A result in the shape of the tile, also where it does not depend on the input."""
        return f"tl.broadcast_to({expression}, {self.shape})"

    def stored(self, expression: str, array: str) -> str:
        """A result in the shape of the tile and the dtype of an array."""
        return f"{self.spread(expression)}.to({array}.dtype.element_ty)"

    def lines(
        self, graph: Graph, inputs: dict[str, str], prefix: str, *, exact: bool
    ) -> tuple[list[str], dict[str, str]]:
        """The lines that compute the graph, and the expression in which each output is found."""
        plain = self.trace.double or not exact

        def template(op: str) -> str:
            return self._template(op, _PLAIN if plain else _ROUNDED)

        return emit.lines(graph, inputs, template, self._constant, prefix)

    def number(self, value: float) -> str:
        """The name of a constant in the precision of the kernel."""
        text = 'float("nan")' if math.isnan(value) else repr(float(value))
        text = {"inf": 'float("inf")', "-inf": '-float("inf")'}.get(text, text)
        return self._named(f"tl.full({self.unit}, {text}, {self.real})")

    def constant_lines(self) -> list[str]:
        """The definitions of the constants that were used; once, before all else."""
        return [f"{name} = {text}" for text, name in self._constants.items()]

    def _constant(self, value: Value) -> str:
        if value.dtype == "bool":
            return self._named(f"tl.full({self.unit}, {bool(value.number)}, tl.int1)")
        assert value.number is not None
        return self.number(value.number)

    def _named(self, text: str) -> str:
        return self._constants.setdefault(text, f"n{len(self._constants)}")

    def _template(self, op: str, divisions: dict[str, str]) -> str:
        if op in _EXPRESSIONS:
            return _EXPRESSIONS[op]
        if op == "cast_float":
            return f"{{0}}.to({self.real})"
        if op in divisions:
            text = divisions[op]
            return text.replace("{one}", self.number(1.0)) if "{one}" in text else text
        helper = "power" if op == "pow" else op
        return self.call(helper, _HELPERS[helper])

    def module(self, title: str, name: str, arguments: list[str], body: list[str]) -> str:
        """The whole module: one kernel `name`, with constants before `body`."""
        text = "\n".join(indent([*self.constant_lines(), *body]))
        imports = ", ".join(sorted(self.helpers))
        helpers = f"\nfrom spikeloom.compiler.gpu.mathlib import {imports}\n" if imports else ""
        head = ",\n    ".join(arguments)
        of = f"{title} of {self.trace.signature.name}, written by spikeloom's step compiler."
        return f'''"""{of}"""

import triton
import triton.language as tl
{helpers}

@triton.jit(do_not_specialize=("T",))
def {name}(
    {head},
):
{text}
'''
