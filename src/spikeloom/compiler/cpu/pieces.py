"""What the forward and the backward kernel have in common: places in scratch memory, the states at
the start, and the coefs."""

from spikeloom.compiler import emit
from spikeloom.compiler.cpu.writer import Parameter, Segment, Writer
from spikeloom.compiler.emit import indent
from spikeloom.compiler.front.trace import Trace

X_AT = "t * x_time + a"

# Scratch of the forward driver: one block of each state. Of the backward driver: each state at each
# of T time steps, then each state's carried gradient, then each vector sum.


def places(states: list[str]) -> list[str]:
    return [f"{j} * stride + b" for j in range(len(states))]


def at_time(states: list[str], time: str) -> list[str]:
    return [f"({j} * T + {time}) * stride + b" for j in range(len(states))]


def carried(states: list[str]) -> list[str]:
    return [f"({len(states)} * T + {j}) * stride + b" for j in range(len(states))]


def vector_sum(states: list[str], j: int) -> str:
    return f"({len(states)} * T + {len(states) + j}) * stride"


def only_if(condition: str, lines: list[str]) -> list[str]:
    return [f"if {condition}:", *indent(lines)] if lines else []


class Carried:
    """What a segment holds of each state in scratch, at `places`: the states, or with another
    `name` their gradients or successors."""

    def __init__(
        self, writer: Writer, segment: Segment, places: list[str], name: str = "{}"
    ) -> None:
        self.states = writer.trace.signature.states
        self.arrays = [name.format(var) for var in writer.states]
        self.elements = [
            f"{array}[{segment.array(array, 'scratch', place)}]"
            for array, place in zip(self.arrays, places, strict=True)
        ]

    def inputs(self, prefix: str = "") -> dict[str, str]:
        """The expression of each inside the loop, by the names of a graph's inputs."""
        named = zip(self.states, self.arrays, strict=True)
        return {f"{prefix}{state}": f"{array}i" for state, array in named}

    def reads(self) -> list[str]:
        pairs = zip(self.arrays, self.elements, strict=True)
        return [f"{array}i = {element}" for array, element in pairs]

    def writes(self, results: dict[str, str], prefix: str = "") -> list[str]:
        named = zip(self.states, self.elements, strict=True)
        return [f"{element} = {results[prefix + state]}" for state, element in named]


def coef_inputs(writer: Writer, segment: Segment) -> dict[str, str]:
    """The coefs as arguments of a segment; returns the expression of each inside its loop."""
    channel = " + c * {0}channel" if writer.variant.nest == "row" else ""
    return placed_coefs(writer, segment, "t * {0}time + c0", f"{{0}}[t * {{0}}time{channel}]")


def placed_coefs(writer: Writer, segment: Segment, vector: str, scalar: str) -> dict[str, str]:
    """The same, where vectors begin at `vector` and a scalar is `scalar`; {0} is its name."""
    inputs = {}
    for name, var in zip(writer.trace.signature.coefs, writer.coefs, strict=True):
        inputs[name] = var
        if name in writer.variant.vectors:
            inputs[name] = f"{var}[{segment.array(var, var, vector.format(var))}]"
        else:
            segment.scalar(var, scalar.format(var))
    return inputs


def summed(
    writer: Writer,
    segment: Segment,
    body: list[str],
    sum_at: dict[str, str],
    results: dict[str, str],
) -> tuple[list[str], str]:
    """The call of a segment, and its text, that adds up what each element contributes to the
    gradients of coefs: a vector's at its place in `sum_at`; those of scalars it answers."""
    lines = list(body)
    for name in writer.leaves:
        var = writer.coef(name)
        target = f"sum_{var}[{sum_at[var]}]" if var in sum_at else f"sum_{var}"
        lines.append(f"{target} = {target} + {results[f'grad:{name}']}")
    sums = [f"sum_{var}" for var in writer.scalars]
    return segment.call(sums), segment.text(lines, sums)


def coef_parameters(trace: Trace) -> list[Parameter]:
    """A coef as parameters of a driver: the array, and its strides over time and channels."""
    kinds = {"": "reals", "time": "integer", "channel": "integer"}
    names = emit.coef_names(trace.signature.coefs)
    return [(f"{var}{what}", kind) for var in names for what, kind in kinds.items()]


def _span(name: str, begin: str, size: str) -> str:
    return f"{name}[{begin} : {begin} + {size}]"


def copied_in(
    writer: Writer,
    at: list[str],
    begin: str,
    size: str,
    suffix: str = "start",
    otherwise: str = "{}rest",
    flag: str = "has_start",
) -> list[str]:
    """Each state's places `at` in the scratch before a walk through time: its array `suffix` from
    `begin` on, or the value `otherwise` where `flag` says that there is none."""
    lines = []
    for var, place in zip(writer.states, at, strict=True):
        target = _span("scratch", place, size)
        lines += [
            f"if {flag}:",
            f"    copy({target}, {_span(f'{var}{suffix}', begin, size)})",
            "else:",
            f"    fill({target}, {otherwise.format(var)})",
        ]
    return lines


def copied_out(writer: Writer, at: list[str], begin: str, size: str, suffix: str) -> list[str]:
    """Each state's array `suffix` after a walk, from its places `at` in the scratch."""
    return [
        f"copy({_span(f'{var}{suffix}', begin, size)}, {_span('scratch', place, size)})"
        for var, place in zip(writer.states, at, strict=True)
    ]
