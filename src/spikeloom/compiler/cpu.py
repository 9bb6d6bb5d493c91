"""CPU kernels: a traced step written out as numba functions.

A kernel is a readable module with two layers. A *segment* is the step (or its recomputation, or its adjoint)
as one loop over contiguous elements of one time step. A *driver* walks a block of neurons through all time
steps, calling segments; a block is small enough that its states stay in cache, so that nothing but the input
has to be saved for the backward pass.

There are two ways to walk. In the **row nest** all elements of a segment share their coefs (one channel of
one sample, or the whole tensor if coefs are per layer): coefs are scalars in the loop and their gradients are
sums. In the **vec nest** elements of a segment have coefs of their own (channels-last, fully connected, short
rows, per neuron): coefs and their gradient accumulators are vectors beside the data.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from spikeloom.compiler.ir import Graph, Value
from spikeloom.compiler.trace import Trace

Storage = Literal["f4", "f8", "bf16", "f16"]


@dataclass(frozen=True)
class Variant:
    """What a kernel is specialised for, besides its step. Sizes and strides are ordinary arguments.

    `vectors`: the coefs that are vectors along a segment (vec nest); the others are scalars.
    `static`: the input is one time step, presented again and again. `record`: sequences to write.
    `gradients`: the inputs whose gradients the backward kernel writes (`x`, coefs; those of the initial
    states are always at hand).
    """

    storage: Storage
    nest: Literal["row", "vec"]
    vectors: frozenset[str] = frozenset()
    static: bool = False
    record: tuple[str, ...] = ()
    gradients: frozenset[str] = frozenset()


_EXPRESSIONS = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "reciprocal": "ONE / {0}",
    "abs": "abs({0})",
    "sqrt": "np.sqrt({0})",
    "rsqrt": "ONE / np.sqrt({0})",
    "floor": "np.floor({0})",
    "sin": "REAL(math.sin({0}))",
    "cos": "REAL(math.cos({0}))",
    "atan": "REAL(math.atan({0}))",
    "pow": "{0} ** {1}",
    "ge": "{0} >= {1}",
    "gt": "{0} > {1}",
    "le": "{0} <= {1}",
    "lt": "{0} < {1}",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "and": "{0} & {1}",
    "or": "{0} | {1}",
    "xor": "{0} != {1}",
    "not": "not {0}",
    "isnan": "{0} != {0}",
    "cast_float": "ONE if {0} else ZERO",
    "cast_bool": "{0} != ZERO",
    "where": "{1} if {0} else {2}",
    **{name: f"{name}({{0}})" for name in ("sign",)},
    **{name: f"{name}({{0}}, {{1}})" for name in ("maximum", "minimum", "remainder")},
}
_BY_PRECISION = ("exp", "log", "log1p", "sigmoid", "tanh", "erf")


class _Names:
    """Python names for the step's own: valid, and never those of the template."""

    def __init__(self, trace: Trace) -> None:
        self.states = [_safe(name) for name in trace.step.states]
        self.coefs = [_safe(name) for name in trace.step.coefs]
        self.by_name = dict(
            zip((*trace.step.states, *trace.step.coefs), self.states + self.coefs, strict=True)
        )

    def __getitem__(self, name: str) -> str:
        return self.by_name[name]


def _safe(name: str) -> str:
    # a trailing underscore sets the step's names apart from the template's
    return name.replace(".", "_") + "_"


class _Writer:
    """Shared by the forward and the backward module: expressions, loads and stores, headers."""

    def __init__(self, trace: Trace, variant: Variant) -> None:
        self.trace = trace
        self.variant = variant
        self.names = _Names(trace)
        self.double = trace.double
        self.suffix = "8" if trace.double else "4"
        self.helpers: set[str] = {"fill", "copy"}
        self.half = variant.storage in ("bf16", "f16")

    def number(self, value: Value) -> str:
        if value.dtype == "bool":
            return repr(bool(value.number))
        text = repr(value.number)
        text = {"inf": "np.inf", "-inf": "-np.inf", "nan": "np.nan"}.get(text, text)
        return text if self.double else f"f4({text})"

    def load(self, array: str) -> str:
        if self.half:
            self.helpers.add(f"load_{self.variant.storage}")
            return f"load_{self.variant.storage}({array}[i])"
        return f"{array}[i]"

    def store(self, expression: str) -> str:
        if self.half:
            self.helpers.add(f"store_{self.variant.storage}")
            return f"store_{self.variant.storage}({expression})"
        return expression

    def body(self, graph: Graph, inputs: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        """The lines that compute the graph, and the name under which each output is found."""
        names: dict[int, str] = {}

        def show(value: Value) -> str:
            if value.is_constant:
                return self.number(value)
            return inputs[value.name] if value.op == "input" else names[id(value)]

        lines = []
        for index, value in enumerate(graph.order):
            template = _EXPRESSIONS.get(value.op)
            if value.op in _BY_PRECISION:
                self.helpers.add(value.op + self.suffix)
                template = f"{value.op}{self.suffix}({{0}})"
            elif value.op in ("sign", "maximum", "minimum", "remainder"):
                self.helpers.add(value.op)
            assert template is not None, value.op
            names[id(value)] = f"t{index}"
            lines.append(f"t{index} = {template.format(*map(show, value.args))}")
        return lines, {name: show(value) for name, value in graph.outputs.items()}

    def header(self, what: str) -> str:
        real = "np.float64" if self.double else "np.float32"
        imports = ", ".join(sorted(self.helpers))
        return f'''"""{what} of {self.trace.step.name}, written by spikeloom's step compiler."""

import math

import numpy as np

from spikeloom.compiler.jit import adjoint, driver, segment
from spikeloom.compiler.mathlib import {imports}

REAL = {real}
f4 = np.float32
ONE = REAL(1.0)
ZERO = REAL(0.0)

'''

    # Segment arguments for the coefs, and the matching slices in a driver.

    def coef_slices(self) -> list[str]:
        row = self.variant.nest == "row"
        slices = []
        for name, own in zip(self.trace.step.coefs, self.names.coefs, strict=True):
            if name in self.variant.vectors:
                slices.append(f"{own}[t * {own}time + c0 : t * {own}time + c0 + w]")
            elif row:
                slices.append(f"{own}[t * {own}time + c * {own}channel]")
            else:
                slices.append(f"{own}[t * {own}time]")
        return slices

    def coef_inputs(self) -> dict[str, str]:
        return {
            name: f"{own}[i]" if name in self.variant.vectors else own
            for name, own in zip(self.trace.step.coefs, self.names.coefs, strict=True)
        }

    def coef_arguments(self) -> list[str]:
        return [a for own in self.names.coefs for a in (own, f"{own}time", f"{own}channel")]


def forward_source(trace: Trace, variant: Variant) -> str:
    """The module whose `run_forward` writes spikes, final states and records."""
    w = _Writer(trace, variant)
    graph = trace.forward.select(("spikes", *trace.step.states, *variant.record))
    inputs = {"x": "x_i", **{n: f"{w.names[n]}i" for n in trace.step.states}, **w.coef_inputs()}
    lines, results = w.body(graph, inputs)
    records = [f"record_{_safe(name)}" for name in variant.record]
    loop = [
        f"x_i = {w.load('x')}",
        *(f"{own}i = {own}[i]" for own in w.names.states),
        *lines,
        f"out[i] = {w.store(results['spikes'])}",
        *(
            f"{own}[i] = {results[n]}"
            for n, own in zip(trace.step.states, w.names.states, strict=True)
        ),
        *(f"{array}[i] = {results[n]}" for n, array in zip(variant.record, records, strict=True)),
    ]
    arguments = ["x", "out", *w.names.states, *records, *w.names.coefs]
    segment = _function("segment", "forward_segment", arguments, _loop(loop))

    states = w.names.states
    calls = [
        "x[t * x_time + a : t * x_time + a + m]",
        "out[t * n + a : t * n + a + m]",
        *(f"scratch[{j} * stride + b : {j} * stride + b + m]" for j in range(len(states))),
        *(f"{array}[t * n + a : t * n + a + m]" for array in records),
        *w.coef_slices(),
    ]
    walk = _walk(variant, f"forward_segment(\n    {_comma(calls)}\n)")
    starts = _per_tile(
        variant,
        [
            line
            for j, own in enumerate(states)
            for line in (
                f"target = scratch[{j} * stride + b : {j} * stride + b + m]",
                "if has_start:",
                f"    copy(target, {own}start[a : a + m])",
                "else:",
                f"    fill(target, {own}rest)",
            )
        ],
    )
    finals = _per_tile(
        variant,
        [
            f"copy({own}final[a : a + m], scratch[{j} * stride + b : {j} * stride + b + m])"
            for j, own in enumerate(states)
        ],
    )
    body = [
        *starts,
        "for t in range(T):",
        *_indent(walk),
        "if want_final:",
        *_indent(finals or ["pass"]),
    ]
    arguments = [
        *_geometry_arguments(variant),
        *("x", "x_time", "out", "has_start", "want_final"),
        *(a for own in states for a in (f"{own}start", f"{own}rest", f"{own}final")),
        *w.coef_arguments(),
        *records,
        "scratch",
    ]
    run = _function("driver", "run_forward", arguments, _tiles(variant, body, backward=False))
    return w.header("Forward") + segment + "\n\n" + run


def backward_source(trace: Trace, variant: Variant) -> str:
    """The module whose `run_backward` recomputes the states of a block and walks it back through time."""
    w = _Writer(trace, variant)
    step = trace.step
    states = w.names.states
    leaves = [name for name in step.coefs if name in variant.gradients]
    wants_x = "x" in variant.gradients
    inputs = {"x": "x_i", **{n: f"{w.names[n]}i" for n in step.states}, **w.coef_inputs()}

    recompute_lines, results = w.body(trace.forward.select(step.states), inputs)
    recompute = _function(
        "segment",
        "recompute_segment",
        ["x", *states, *(f"{own}next" for own in states), *w.names.coefs],
        _loop(
            [
                f"x_i = {w.load('x')}",
                *(f"{own}i = {own}[i]" for own in states),
                *recompute_lines,
                *(
                    f"{own}next[i] = {results[n]}"
                    for n, own in zip(step.states, states, strict=True)
                ),
            ]
        ),
    )

    wanted = [*(["grad:x"] if wants_x else []), *(f"grad:{n}" for n in (*step.states, *leaves))]
    inputs |= {"grad:spikes": "g_i", **{f"grad:{n}": f"g_{w.names[n]}i" for n in step.states}}
    lines, results = w.body(trace.adjoint.select(wanted), inputs)
    sums = [n for n in leaves if n not in variant.vectors]
    loop = [
        f"x_i = {w.load('x')}",
        f"g_i = {w.load('g')}",
        *(f"{own}i = {own}[i]" for own in states),
        *(f"g_{own}i = g_{own}[i]" for own in states),
        *lines,
    ]
    if wants_x and variant.static:
        loop.append(f"gx[i] = gx[i] + {results['grad:x']}")
    elif wants_x:
        loop.append(f"gx[i] = {w.store(results['grad:x'])}")
    loop += [
        f"g_{own}[i] = {results[f'grad:{n}']}" for n, own in zip(step.states, states, strict=True)
    ]
    for name in leaves:
        own = w.names[name]
        if name in sums:
            loop.append(f"sum_{own} = sum_{own} + {results[f'grad:{name}']}")
        else:
            loop.append(f"sum_{own}[i] = sum_{own}[i] + {results[f'grad:{name}']}")
    vector_sums = [f"sum_{w.names[n]}" for n in leaves if n not in sums]
    adjoint = _function(
        "adjoint",
        "adjoint_segment",
        [
            *("x", "g"),
            *(["gx"] if wants_x else []),
            *states,
            *(f"g_{own}" for own in states),
            *w.names.coefs,
            *vector_sums,
        ],
        [
            *(f"sum_{w.names[n]} = ZERO" for n in sums),
            *_loop(loop),
            f"return {_returned([f'sum_{w.names[n]}' for n in sums])}",
        ],
    )

    count = len(states)

    def state(j: int, time: str) -> str:
        at = f"({j} * T + {time}) * stride + b"
        return f"scratch[{at} : {at} + m]"

    def carried(j: int) -> str:
        at = f"({count} * T + {j}) * stride + b"
        return f"scratch[{at} : {at} + m]"

    starts = _per_tile(
        variant,
        [
            line
            for j, own in enumerate(states)
            for line in (
                "if has_start:",
                f"    copy({state(j, '0')}, {own}start[a : a + m])",
                "else:",
                f"    fill({state(j, '0')}, {own}rest)",
                "if has_grad_final:",
                f"    copy({carried(j)}, {own}grad_final[a : a + m])",
                "else:",
                f"    fill({carried(j)}, ZERO)",
            )
        ]
        + (["fill(gx[a : a + m], ZERO)"] if wants_x and variant.static else []),
    )
    x_slice = "x[t * x_time + a : t * x_time + a + m]"
    again = _walk(
        variant,
        "recompute_segment(\n    "
        + _comma(
            [
                x_slice,
                *(state(j, "t") for j in range(count)),
                *(state(j, "t + 1") for j in range(count)),
                *w.coef_slices(),
            ]
        )
        + "\n)",
    )
    gx_slice = "gx[a : a + m]" if variant.static else "gx[t * n + a : t * n + a + m]"
    call = (
        "adjoint_segment(\n    "
        + _comma(
            [
                x_slice,
                "g[t * g_time + a : t * g_time + a + m]",
                *([gx_slice] if wants_x else []),
                *(state(j, "t") for j in range(count)),
                *(carried(j) for j in range(count)),
                *w.coef_slices(),
                *(f"{name}[:w]" for name in vector_sums),
            ]
        )
        + "\n)"
    )
    if sums:
        call = f"{_returned([f'sum_{w.names[n]}' for n in sums])} = {call}"
    row = variant.nest == "row"
    unit, column = ("group", "c * {own}channel") if row else ("unit", "0")
    call += "".join(
        f"\npart_{own}[({unit} * {own}times + t * {own}timed) * {own}width + "
        f"{column.format(own=own)}] += sum_{own}"
        for own in (w.names[n] for n in sums)
    )
    back = _walk(variant, call)
    clear = [f"fill({name}, ZERO)" for name in vector_sums]
    flush = [
        line
        for own in (w.names[n] for n in leaves if n not in sums)
        for line in (
            f"at = (h * {own}times + t * {own}timed) * {own}width + c0",
            "for i in range(w):",
            f"    part_{own}[at + i] += sum_{own}[i]",
        )
    ]
    grads = _per_tile(
        variant, [f"copy({own}grad_start[a : a + m], {carried(j)})" for j, own in enumerate(states)]
    )
    body = [
        *starts,
        "for t in range(T - 1):",
        *_indent(again),
        "for t in range(T - 1, -1, -1):",
        *_indent([*clear, *back, *flush]),
        "if want_grad_start:",
        *_indent(grads or ["pass"]),
    ]
    partial_arguments = [
        a
        for own in (w.names[n] for n in leaves)
        for a in (f"part_{own}", f"{own}times", f"{own}timed", f"{own}width")
    ]
    arguments = [
        *_geometry_arguments(variant),
        *("x", "x_time", "g", "g_time", "gx"),
        *("has_start", "has_grad_final", "want_grad_start"),
        *(
            a
            for own in states
            for a in (f"{own}start", f"{own}rest", f"{own}grad_final", f"{own}grad_start")
        ),
        *w.coef_arguments(),
        *partial_arguments,
        "scratch",
    ]
    allocate = [
        f"{name} = scratch[(({count} * T + {count}) + {j}) * stride : (({count} * T + {count}) + {j}) * stride + wide]"
        for j, name in enumerate(vector_sums)
    ]
    run = _function(
        "driver", "run_backward", arguments, [*allocate, *_tiles(variant, body, backward=True)]
    )
    return w.header("Backward") + recompute + "\n\n" + adjoint + "\n\n" + run


def backward_scratch(trace: Trace, variant: Variant, time_steps: int) -> int:
    """How many block-sized arrays the backward driver needs: states, carried gradients, vector sums."""
    count = len(trace.step.states)
    vector_sums = len(variant.vectors & variant.gradients)
    return count * time_steps + count + vector_sums


# The walks. Both leave in scope, for one segment: a (its first element within the time step), m (its
# length), b (its place in the block's scratch) and what its coefs are found by.


def _geometry_arguments(variant: Variant) -> list[str]:
    if variant.nest == "row":
        return ["first", "last", "blocks", "block", "stride", "T", "n", "L", "C"]
    return ["first", "last", "shares", "high", "wide", "stride", "T", "n", "rows", "inner"]


def _tiles(variant: Variant, body: list[str], backward: bool) -> list[str]:
    """The loop over blocks. Row nest: blocks of `block` elements, `blocks` of them to a group. Vec nest: a
    unit is `wide` columns times a share of the rows, walked `high` rows at a time."""
    if variant.nest == "row":
        return [
            "for group in range(first, last):",
            "    for number in range(group * blocks, min((group + 1) * blocks, (n + block - 1) // block)):",
            "        begin = number * block",
            "        end = min(begin + block, n)",
            *_indent(body, 2),
        ]
    return [
        "for unit in range(first, last):",
        "    h = unit % shares",
        "    c0 = (unit // shares) * wide",
        "    w = min(wide, inner - c0)",
        "    for row0 in range(rows * h // shares, rows * (h + 1) // shares, high):",
        "        row1 = min(row0 + high, rows * (h + 1) // shares)",
        *_indent(body, 2),
    ]


def _walk(variant: Variant, call: str) -> list[str]:
    """One time step of a block, segment by segment."""
    lines = call.splitlines()
    if variant.nest == "row":
        return [
            "a = begin",
            "while a < end:",
            "    row = a // L",
            "    c = row % C",
            "    m = min((row + 1) * L, end) - a",
            "    b = a - begin",
            *_indent(lines),
            "    a += m",
        ]
    return [
        "for row in range(row0, row1):",
        "    a = row * inner + c0",
        "    m = w",
        "    b = (row - row0) * wide",
        *_indent(lines),
    ]


def _per_tile(variant: Variant, lines: list[str]) -> list[str]:
    """Lines run once for a block, on everything in it."""
    if not lines:
        return []
    if variant.nest == "row":
        return ["a = begin", "m = end - begin", "b = 0", *lines]
    return [
        "for row in range(row0, row1):",
        "    a = row * inner + c0",
        "    m = w",
        "    b = (row - row0) * wide",
        *_indent(lines),
    ]


def _function(decorator: str, name: str, arguments: list[str], body: list[str]) -> str:
    head = f"@{decorator}\ndef {name}(\n    {_comma(arguments)},\n):\n"
    return head + "\n".join(_indent(body)) + "\n"


def _loop(lines: list[str]) -> list[str]:
    return ["for i in range(x.size):", *_indent(lines)]


def _comma(parts: list[str]) -> str:
    return ",\n    ".join(parts)


def _returned(names: list[str]) -> str:
    return ", ".join(names) if names else "None"


def _indent(lines: list[str], levels: int = 1) -> list[str]:
    return [("    " * levels) + line for line in lines]


def real_type(trace: Trace) -> type[np.floating]:
    """The numpy type of states and sums."""
    return np.float64 if trace.double else np.float32
