"""What the forward and the backward kernel have in common: places in scratch memory, the states at
the start, and the coefs."""

from spikeloom.compiler import emit
from spikeloom.compiler.cpu.writer import Parameter, Segment, Writer
from spikeloom.compiler.emit import indent
from spikeloom.compiler.front.trace import Trace

X_AT = "t * x_time + a"

# Scratch of the forward driver: one block of each state. Of the backward driver: each state at each
# of T time steps, then each state's carried gradient, then each vector sum.


def place(j: int) -> str:
    return f"{j} * stride + b"


def at_time(j: int, time: str) -> str:
    return f"({j} * T + {time}) * stride + b"


def carried(count: int, j: int) -> str:
    return f"({count} * T + {j}) * stride + b"


def vector_sum(count: int, j: int) -> str:
    return f"({count} * T + {count + j}) * stride"


def span(place: str) -> str:
    return f"scratch[{place} : {place} + m]"


def start_lines(writer: Writer) -> list[str]:
    """The states before the first step: as given, or at rest."""
    return [
        line
        for j, var in enumerate(writer.states)
        for line in (
            "if has_start:",
            f"    copy({span(start_place(writer, j))}, {var}start[a : a + m])",
            "else:",
            f"    fill({span(start_place(writer, j))}, {var}rest)",
        )
    ]


def start_place(writer: Writer, j: int) -> str:
    return at_time(j, "0") if writer.backward else place(j)


def only_if(condition: str, lines: list[str]) -> list[str]:
    return [f"if {condition}:", *indent(lines)] if lines else []


def coef_inputs(writer: Writer, segment: Segment) -> dict[str, str]:
    """The coefs as arguments of a segment; returns the expression of each inside its loop."""
    variant = writer.variant
    inputs = {}
    for name, var in zip(writer.trace.signature.coefs, writer.coefs, strict=True):
        if name in variant.vectors:
            at = segment.array(var, var, f"t * {var}time + c0")
            inputs[name] = f"{var}[{at}]"
        else:
            channel = f" + c * {var}channel" if variant.nest == "row" else ""
            segment.scalar(var, f"{var}[t * {var}time{channel}]")
            inputs[name] = var
    return inputs


def coef_parameters(trace: Trace) -> list[Parameter]:
    """A coef as parameters of a driver: the array, and its strides over time and channels."""
    kinds = {"": "reals", "time": "integer", "channel": "integer"}
    names = emit.coef_names(trace.signature.coefs)
    return [(f"{var}{what}", kind) for var in names for what, kind in kinds.items()]


def _span(name: str, begin: str, size: str) -> str:
    return f"{name}[{begin} : {begin} + {size}]"


def copied_starts(writer: Writer, at: list[str], given: str, size: str) -> list[str]:
    """Each state's places `at` in the scratch before the first step: as given, or at rest."""
    return [
        line
        for var, place in zip(writer.states, at, strict=True)
        for line in (
            "if has_start:",
            f"    copy({_span('scratch', place, size)}, {_span(f'{var}start', given, size)})",
            "else:",
            f"    fill({_span('scratch', place, size)}, {var}rest)",
        )
    ]


def copied_finals(writer: Writer, at: list[str], given: str, size: str) -> list[str]:
    """The states after the last step, from their places `at` in the scratch, where asked for."""
    lines = [
        f"    copy({_span(f'{var}final', given, size)}, {_span('scratch', place, size)})"
        for var, place in zip(writer.states, at, strict=True)
    ]
    return ["if want_final:", *lines] if lines else []
