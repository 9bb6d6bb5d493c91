"""What the forward and the backward kernel have in common: what they are specialised for, and how
they load states and coefs."""

from dataclasses import dataclass

from spikeloom.compiler.gpu.writer import Writer
from spikeloom.compiler.plan.geometry import Nest


@dataclass(frozen=True)
class Variant:
    """What a kernel is specialised for, besides its step. Sizes and strides are ordinary arguments.

    `rest`: the states before the first step, where none are given (`starts`). `flat`, `quads`: see
    `loops.row_tile`. `wide`: a time step has 2^31 neurons or more. `vectors`: the coefs that are
    vectors along a row. `timed`: those with a value per time step. `static`: the input is one time
    step, presented again and again.
    """

    nest: Nest
    rest: tuple[float, ...]
    flat: bool = False
    quads: bool = False
    wide: bool = False
    vectors: frozenset[str] = frozenset()
    timed: frozenset[str] = frozenset()
    static: bool = False
    starts: bool = False

    @property
    def index(self) -> str:
        return "tl.int64" if self.wide else "tl.int32"


def start_lines(writer: Writer, variant: Variant, shape: str) -> list[str]:
    """The states before the first step: as given, or at rest."""
    if variant.starts:
        return [f"{var} = tl.load({var}start + at, mask=keep, other=0)" for var in writer.states]
    return [
        f"{var} = tl.full({shape}, {rest!r}, {writer.real})"
        for var, rest in zip(writer.states, variant.rest, strict=True)
    ]


def coef_inputs(writer: Writer, suffix: str = "") -> dict[str, str]:
    """The expression of each coef; `suffix` tells the steps of a segment apart where it changes."""
    return {
        name: var if name not in writer.trace.signature.time_coefs else f"{var}t{suffix}"
        for name, var in zip(writer.trace.signature.coefs, writer.coefs, strict=True)
    }


def constant_loads(writer: Writer, variant: Variant) -> list[str]:
    """The coefs that are the same at all time steps."""
    return [
        line
        for name, var in zip(writer.trace.signature.coefs, writer.coefs, strict=True)
        if name not in variant.timed
        for line in _load_coef(variant, name, var, var, f"{var}at")
    ]


def timed_loads(writer: Writer, variant: Variant, time: str, suffix: str) -> list[str]:
    """The coefs of one time step."""
    return [
        line
        for name, var in zip(writer.trace.signature.coefs, writer.coefs, strict=True)
        if name in variant.timed
        for line in _load_coef(
            variant, name, var, f"{var}t{suffix}", f"{var}at + {time} * {var}width"
        )
    ]


def _load_coef(variant: Variant, name: str, var: str, to: str, pointer: str) -> list[str]:
    if name in variant.vectors:
        return [f"{to} = tl.load({pointer} + column, mask=inside, other=0)[None, :]"]
    if variant.nest == "row" and not variant.flat:
        return [f"{to} = tl.load({pointer} + channel * {var}channel)"]
    return [f"{to} = tl.load({pointer})"]


def coef_parameters(writer: Writer, variant: Variant) -> list[str]:
    """A coef as arguments: where it lies, its width (where it changes over time), its stride over
    channels."""
    parameters = []
    for name, var in zip(writer.trace.signature.coefs, writer.coefs, strict=True):
        parameters.append(f"{var}at")
        if name in variant.timed:
            parameters.append(f"{var}width")
        if variant.nest == "row" and not variant.flat:
            parameters.append(f"{var}channel")
    return parameters


def spread(expression: str, shape: str) -> str:
    """A result in the shape of the tile, also where it does not depend on the input."""
    return f"tl.broadcast_to({expression}, {shape})"


def stored(expression: str, array: str, shape: str) -> str:
    """A result in the shape of the tile and the dtype of an array."""
    return f"{spread(expression, shape)}.to({array}.dtype.element_ty)"
