"""What operations look like in C."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from torch.fx import Node

from spikeloom.errors import ExportError

_BINARY = {
    **{"add": "+", "sub": "-", "mul": "*", "div": "/", "ge": ">=", "gt": ">", "le": "<="},
    **{"lt": "<", "eq": "==", "ne": "!=", "and": "&&", "or": "||", "xor": "!="},
}
_FUNCTIONS = {
    **{"abs": "fabsf", "sqrt": "sqrtf", "exp": "expf", "log": "logf", "log1p": "log1pf"},
    **{"tanh": "tanhf", "erf": "erff", "atan": "atanf", "sin": "sinf", "cos": "cosf"},
    **{"floor": "floorf", "pow": "powf", "isnan": "isnan"},
}
_TEMPLATES = {
    "neg": "-({0})",
    "reciprocal": "1.0f / ({0})",
    "rsqrt": "1.0f / sqrtf({0})",
    "sigmoid": "1.0f / (1.0f + expf(-({0})))",
    "sign": "(float)(({0} > 0.0f) - ({0} < 0.0f))",
    "maximum": "{0} != {0} ? {0} : {0} < {1} || {1} != {1} ? {1} : {0}",
    "minimum": "{0} != {0} ? {0} : {0} > {1} || {1} != {1} ? {1} : {0}",
    "remainder": "{0} - floorf({0} / {1}) * {1}",
    "where": "{0} ? {1} : {2}",
    "not": "!({0})",
    "cast_float": "(float)({0})",
    "cast_bool": "({0}) != 0.0f",
}


def expression(op: str, arguments: Sequence[str]) -> str:
    """An operation of the step compiler's graph."""
    if op in _BINARY:
        return f"{arguments[0]} {_BINARY[op]} {arguments[1]}"
    if op in _FUNCTIONS:
        return f"{_FUNCTIONS[op]}({', '.join(arguments)})"
    return _TEMPLATES[op].format(*arguments)


def plain_name(node: Node) -> str:
    """Of an operation of aten, without its overload."""
    return str(node.target).removeprefix("aten.").partition(".")[0]


def _arguments(node: Node) -> dict[str, Any]:
    """Those of an operation, by their names in torch's schema; defaults where none is given."""
    known = node.target._schema.arguments  # type: ignore[union-attr]
    given = dict(zip((part.name for part in known), node.args, strict=False)) | node.kwargs
    return {part.name: given.get(part.name, part.default_value) for part in known}


def _added(a: str, b: str, total: str, source: str) -> str:
    """total + a b. The network's input has any values, and torch adds their products unrounded;
    those with spikes are exact anyway."""
    return f"MADD({a}, {b}, {total})" if source == "input" else f"{total} + {a} * {b}"


def _linear(node: Node, array: Any, constants: Any, keep: Any) -> str:
    """Inputs in their order; those that are 0, which most spikes are, cost nothing."""
    given = _arguments(node)
    matrix = constants[given["weight"]]
    outputs, inputs = matrix.shape
    samples = node.meta["val"].numel() // outputs
    if samples != 1:
        raise ExportError(f"no C form for a linear layer on {samples} positions of a sample")
    start, source = _start(given["bias"], array), array(given["input"])
    return f"""{{
    const float *x = {source};
    float *y = @out;
    for (int o = 0; o < {outputs}; o++) y[o] = {start};
    for (int i = 0; i < {inputs}; i++) {{
        const float a = x[i], *w = {keep(matrix.t())} + i * {outputs};
        if (a != 0.0f)
            for (int o = 0; o < {outputs}; o++) y[o] = {_added("a", "w[o]", "y[o]", source)};
    }}
}}"""


def _start(bias: Any, array: Callable[[Any], str]) -> str:
    return "0.0f" if bias is None else f"{array(bias)}[o]"


def _conv(node: Node, array: Any, constants: Any, keep: Any) -> str:
    """Each output adds its products in the order channel, row, column, as the loops stand."""
    given = _arguments(node)
    if isinstance(given["padding"], str):
        raise ExportError(
            f"no C form for a convolution with padding={given['padding']!r}: give a number"
        )
    matrix, groups = constants[given["weight"]], given["groups"]
    flat = matrix.dim() == 3
    stride, dilation = (_pair(given[name], flat, 1) for name in ("stride", "dilation"))
    padding = _pair(given["padding"], flat, 0)
    (C, H, W), (O, P, Q) = _image(given["input"]), _image(node)
    kh, kw = (1, matrix.shape[2]) if flat else matrix.shape[2:]
    start, source = _start(given["bias"], array), array(given["input"])
    place = f"y[(o * {P} + r) * {Q} + q]"
    return f"""{{
    const float *x = {source};
    float *y = @out;
    for (int o = 0; o < {O}; o++)
        for (int p = 0; p < {P * Q}; p++) y[o * {P * Q} + p] = {start};
    for (int o = 0; o < {O}; o++)
    for (int i = 0; i < {C // groups}; i++)
    for (int a = 0; a < {kh}; a++)
    for (int b = 0; b < {kw}; b++) {{
        const float w = {keep(matrix)}[((o * {C // groups} + i) * {kh} + a) * {kw} + b];
        const float *in = x + (o / {O // groups} * {C // groups} + i) * {H * W};
        for (int r = 0; r < {P}; r++) {{
            const int h = r * {stride[0]} - {padding[0]} + a * {dilation[0]};
            if (h < 0 || h >= {H}) continue;
            for (int q = 0; q < {Q}; q++) {{
                const int v = q * {stride[1]} - {padding[1]} + b * {dilation[1]};
                if (v >= 0 && v < {W}) {place} = {_added("w", f"in[h * {W} + v]", place, source)};
            }}
        }}
    }}
}}"""


def _image(node: Node) -> list[int]:
    """Channels, height and width; what has one axis has a height of 1."""
    channels, *sizes = node.meta["val"].shape[1:]
    return [channels, *[1] * (2 - len(sizes)), *sizes]


def _pair(value: Any, flat: bool, high: int) -> list[int]:
    """A setting for height and width: `high` for the height of what has one axis."""
    values = [value] if isinstance(value, int) else list(value)
    if flat:
        return [high, *values]
    return values * 2 if len(values) == 1 else values


def _pool(node: Node, array: Any, constants: Any, keep: Any) -> str:
    given, kind = _arguments(node), plain_name(node)
    flat, most = kind.endswith("1d"), kind.startswith("max")
    plain = not given["ceil_mode"] and given.get("count_include_pad", True)
    plain = plain and given.get("divisor_override") is None
    if not plain or _pair(given.get("dilation", 1), flat, 1) != [1, 1]:
        raise ExportError(
            "no C form for pooling with dilation, ceil_mode, or another divisor than the "
            "window's size"
        )
    x, kernel = given["self"], given["kernel_size"]
    size, stride = _pair(kernel, flat, 1), _pair(given["stride"] or kernel, flat, 1)
    padding = _pair(given["padding"], flat, 0)
    (C, H, W), (_, P, Q) = _image(x), _image(node)
    first = "-INFINITY" if most else "0.0f"
    each = "s = u > s || u != u ? u : s" if most else "s += u"
    last = "s" if most else f"s / {size[0] * size[1]}.0f"
    return f"""for (int c = 0; c < {C}; c++)
for (int r = 0; r < {P}; r++)
for (int q = 0; q < {Q}; q++) {{
    float s = {first};
    for (int a = 0; a < {size[0]}; a++)
    for (int b = 0; b < {size[1]}; b++) {{
        const int h = r * {stride[0]} - {padding[0]} + a, v = q * {stride[1]} - {padding[1]} + b;
        if (h < 0 || h >= {H} || v < 0 || v >= {W}) continue;
        const float u = ({array(x)})[(c * {H} + h) * {W} + v];
        {each};
    }}
    (@out)[(c * {P} + r) * {Q} + q] = {last};
}}"""


def _reduce(node: Node, array: Any, constants: Any, keep: Any) -> str:
    given, size = _arguments(node), node.meta["val"].numel()
    x = given["self"]
    shape = list(x.meta["val"].shape)
    axes = sorted(d % len(shape) for d in given.get("dim") or range(len(shape)))
    count = prod(shape) // size
    if prod(shape[axes[0] :]) != count:
        raise ExportError(f"no C form for a sum over axes {axes} of {shape}")
    result = f"s / {count}.0f" if plain_name(node) == "mean" else "s"
    return f"""for (int o = 0; o < {size}; o++) {{
    float s = 0.0f;
    for (int i = 0; i < {count}; i++) s += ({array(x)})[o * {count} + i];
    (@out)[o] = {result};
}}"""


def _row(node: Node, array: Any, constants: Any, keep: Any) -> str:
    """A row of a table of constants, such as those of a time step."""
    table, axis, index = _arguments(node).values()
    size = node.meta["val"].numel()
    if axis != 0 or table not in constants:
        raise ExportError("no C form for index_select other than of a row of constants")
    return (
        f"memcpy(@out, {keep(constants[table])} + (int)({array(index)})[0] * {size}, "
        f"{size} * sizeof(float));"
    )


def _cat(node: Node, array: Any, constants: Any, keep: Any) -> str:
    """Time steps after time steps, as a delay keeps them."""
    parts, axis = _arguments(node).values()
    if axis != 0:
        raise ExportError("no C form for cat along another axis than the first")
    at, lines = 0, []
    for part in parts:
        size = part.meta["val"].numel()
        lines.append(f"memcpy(@out + {at}, {array(part)}, {size} * sizeof(float));")
        at += size
    return "\n".join(lines)


def _slice(node: Node, array: Any, constants: Any, keep: Any) -> str:
    """Rows in a row."""
    x, axis, start, _, step = _arguments(node).values()
    if axis != 0 or step != 1:
        raise ExportError("no C form for a slice other than of rows")
    rows, start = x.meta["val"].shape[0], start or 0
    first = (start + rows if start < 0 else start) * x.meta["val"].numel() // rows
    size = node.meta["val"].numel()
    return f"memcpy(@out, {array(x)} + {first}, {size} * sizeof(float));"


def _gather(node: Node, array: Any, constants: Any, keep: Any) -> str:
    """For each element the row that is its own, such as that of its delay."""
    x, axis, index, _ = _arguments(node).values()
    size = node.meta["val"].numel()
    if axis != 0 or index not in constants or len(node.meta["val"]) != 1:
        raise ExportError("no C form for gather other than of one row by constants")
    rows = keep(constants[index])
    return (
        f"for (int i = 0; i < {size}; i++) (@out)[i] = ({array(x)})[(int){rows}[i] * {size} + i];"
    )


LAYERS: dict[str, Callable[..., str]] = {
    "linear": _linear,
    **dict.fromkeys(("conv1d", "conv2d"), _conv),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"), _pool),
    **dict.fromkeys(("mean", "sum"), _reduce),
    **{"index_select": _row, "cat": _cat, "slice": _slice, "gather": _gather},
}
"""The statement of a layer, its result written as @out, made of the node, the name in C of an
argument (`array`), the constants, and what keeps an array of weights and names it (`keep`)."""
