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


def layer_text(
    node: Node,
    name: str,
    array: Callable[[Any], str],
    constants: dict[Node, Any],
    keep: Callable[[Any], str],
) -> str | None:
    """The statement of a layer, its result written as @out; None for what has none.

    `array`: the name of an argument's array; `keep`: that of an array of weights.
    """
    maker = _LAYERS.get(name)
    return None if maker is None else maker(node, array, constants, keep)


def _added(a: str, b: str, total: str, source: str) -> str:
    """total + a b. The network's input has any values, and torch adds their products unrounded;
    those with spikes are exact anyway."""
    return f"MADD({a}, {b}, {total})" if source == "input" else f"{total} + {a} * {b}"


def _linear(node: Node, array: Any, constants: Any, keep: Any) -> str:
    """Inputs in their order; those that are 0, which most spikes are, cost nothing."""
    x, weight, *rest = node.args
    matrix = constants[weight]
    outputs, inputs = matrix.shape
    bias = rest[0] if rest else None
    start = "0.0f" if bias is None else f"{array(bias)}[o]"
    samples = node.meta["val"].numel() // outputs
    if samples != 1:
        raise ExportError(f"no C form for a linear layer on {samples} positions of a sample")
    source = array(x)
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


def _conv(node: Node, array: Any, constants: Any, keep: Any) -> str:
    """Each output adds its products in the order channel, row, column, as the loops stand."""
    names = ("x", "w", "bias", "stride", "padding", "dilation", "groups")
    values: dict[str, Any] = dict(zip(names, node.args, strict=False))
    matrix, bias = constants[values["w"]], values.get("bias")
    flat = matrix.dim() == 3
    stride, dilation = (_pair(values.get(k, 1), flat, 1) for k in ("stride", "dilation"))
    padding = values.get("padding", 0)
    if isinstance(padding, str):
        raise ExportError(f"no C form for a convolution with padding={padding!r}: give a number")
    padding = _pair(padding, flat, 0)
    (C, H, W), (O, P, Q) = _image(values["x"]), _image(node)
    groups = values.get("groups", 1)
    kh, kw = (1, matrix.shape[2]) if flat else matrix.shape[2:]
    start = "0.0f" if bias is None else f"{array(bias)}[o]"
    source = array(values["x"])
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


def _pool(kind: str) -> Callable[..., str]:
    def text(node: Node, array: Any, constants: Any, keep: Any) -> str:
        given: tuple[Any, ...] = node.args
        x, kernel, *others = given
        options: dict[str, Any] = dict(zip(("stride", "padding"), others, strict=False))
        extra = others[2:]
        flat = kind.endswith("1d")
        plain = ([1] if "max" in kind else []) + [False] + ([True, None] if "avg" in kind else [])
        for value, usual in zip(extra, plain, strict=False):
            if (value[0] if isinstance(value, list) else value) != usual:
                raise ExportError(
                    "no C form for pooling with dilation, ceil_mode, or another divisor than the "
                    "window's size"
                )
        size = _pair(kernel, flat, 1)
        stride = _pair(options.get("stride") or kernel, flat, 1)
        padding = _pair(options.get("padding", 0), flat, 0)
        (C, H, W), (_, P, Q) = _image(x), _image(node)
        first = "-INFINITY" if "max" in kind else "0.0f"
        each = "s = u > s || u != u ? u : s" if "max" in kind else "s += u"
        last = "s" if "max" in kind else f"s / {size[0] * size[1]}.0f"
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

    return text


def _reduce(divide: bool) -> Callable[..., str]:
    def text(node: Node, array: Any, constants: Any, keep: Any) -> str:
        x, dims, *_ = node.args
        shape = list(x.meta["val"].shape)  # type: ignore[union-attr]
        axes = sorted(d % len(shape) for d in dims)  # type: ignore[union-attr]
        count = x.meta["val"].numel() // node.meta["val"].numel()  # type: ignore[union-attr]
        if prod(shape[axes[0] :]) != count:
            raise ExportError(f"no C form for a sum over axes {axes} of {shape}")
        result = f"s / {count}.0f" if divide else "s"
        return f"""for (int o = 0; o < {node.meta["val"].numel()}; o++) {{
    float s = 0.0f;
    for (int i = 0; i < {count}; i++) s += ({array(x)})[o * {count} + i];
    (@out)[o] = {result};
}}"""

    return text


def _row(node: Node, array: Any, constants: Any, keep: Any) -> str:
    """A row of a table of constants, such as those of a time step."""
    table, axis, index = node.args
    size = node.meta["val"].numel()
    if axis != 0 or table not in constants:
        raise ExportError("no C form for index_select other than of a row of constants")
    return (
        f"memcpy(@out, {keep(constants[table])} + (int)({array(index)})[0] * {size}, "
        f"{size} * sizeof(float));"
    )


def _cat(node: Node, array: Any, constants: Any, keep: Any) -> str:
    """Time steps after time steps, as a delay keeps them."""
    parts: Any = node.args[0]
    if len(node.args) > 1 and node.args[1] != 0:
        raise ExportError("no C form for cat along another axis than the first")
    at, lines = 0, []
    for part in parts:
        size = part.meta["val"].numel()
        lines.append(f"memcpy(@out + {at}, {array(part)}, {size} * sizeof(float));")
        at += size
    return "\n".join(lines)


def _slice(node: Node, array: Any, constants: Any, keep: Any) -> str:
    """Rows in a row."""
    values: dict[str, Any] = dict(
        zip(("x", "axis", "start", "end", "step"), node.args, strict=False)
    )
    if values.get("axis", 0) != 0 or values.get("step", 1) != 1:
        raise ExportError("no C form for a slice other than of rows")
    shape, start = values["x"].meta["val"].shape, values.get("start") or 0
    row = values["x"].meta["val"].numel() // shape[0]
    first = (start + shape[0] if start < 0 else start) * row
    size = node.meta["val"].numel()
    return f"memcpy(@out, {array(values['x'])} + {first}, {size} * sizeof(float));"


def _gather(node: Node, array: Any, constants: Any, keep: Any) -> str:
    """For each element the row that is its own, such as that of its delay."""
    x, axis, index, *_ = node.args
    size = node.meta["val"].numel()
    if axis != 0 or index not in constants or len(node.meta["val"]) != 1:
        raise ExportError("no C form for gather other than of one row by constants")
    rows = keep(constants[index])
    return (
        f"for (int i = 0; i < {size}; i++) (@out)[i] = ({array(x)})[(int){rows}[i] * {size} + i];"
    )


_LAYERS: dict[str, Callable[..., str]] = {
    "linear": _linear,
    "conv1d": _conv,
    "conv2d": _conv,
    **{f"{kind}_pool{n}d": _pool(f"{kind}{n}d") for kind in ("max", "avg") for n in (1, 2)},
    "mean": _reduce(divide=True),
    "sum": _reduce(divide=False),
    **{"index_select": _row, "cat": _cat, "slice": _slice, "gather": _gather},
}
