"""What the forward and the backward kernel have in common: how they load states and coefs."""

from spikeloom.compiler.gpu.writer import Writer


def start_lines(writer: Writer) -> list[str]:
    """The states before the first step: as given, or at rest."""
    if writer.variant.starts:
        return [f"{var} = tl.load({var}start + at, mask=keep, other=0)" for var in writer.states]
    return [
        f"{var} = tl.full({writer.shape}, {rest!r}, {writer.real})"
        for var, rest in zip(writer.states, writer.variant.rest, strict=True)
    ]


def coef_inputs(writer: Writer, suffix: str = "") -> dict[str, str]:
    """The expression of each coef; `suffix` tells the steps of a segment apart where it changes."""
    return {
        name: var if name not in writer.step.time_coefs else f"{var}t{suffix}"
        for name, var in zip(writer.step.coefs, writer.coefs, strict=True)
    }


def constant_loads(writer: Writer) -> list[str]:
    """The coefs that are the same at all time steps."""
    return [
        _load_coef(writer, name, var, var, f"{var}at")
        for name, var in zip(writer.step.coefs, writer.coefs, strict=True)
        if name not in writer.step.time_coefs
    ]


def timed_loads(writer: Writer, time: str, suffix: str) -> list[str]:
    """The coefs of one time step."""
    return [
        _load_coef(writer, name, var, f"{var}t{suffix}", f"{var}at + {time} * {var}width")
        for name, var in zip(writer.step.coefs, writer.coefs, strict=True)
        if name in writer.step.time_coefs
    ]


def _load_coef(writer: Writer, name: str, var: str, to: str, pointer: str) -> str:
    if name in writer.variant.vectors:
        return f"{to} = tl.load({pointer} + column, mask=inside, other=0)[None, :]"
    if writer.variant.nest == "row" and not writer.variant.flat:
        return f"{to} = tl.load({pointer} + channel * {var}channel)"
    return f"{to} = tl.load({pointer})"


def coef_parameters(writer: Writer) -> list[str]:
    """A coef as arguments: where it lies, its width (where it changes over time), its stride over
    channels."""
    parameters = []
    for name, var in zip(writer.step.coefs, writer.coefs, strict=True):
        parameters.append(f"{var}at")
        if name in writer.step.time_coefs:
            parameters.append(f"{var}width")
        if writer.variant.nest == "row" and not writer.variant.flat:
            parameters.append(f"{var}channel")
    return parameters
