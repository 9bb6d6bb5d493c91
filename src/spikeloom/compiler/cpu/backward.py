"""The backward kernel of the CPU: the states of a block are computed again from the input, then
walked back through time by the step's adjoint."""

from spikeloom.compiler import emit
from spikeloom.compiler.cpu import pieces
from spikeloom.compiler.cpu.loops import geometry_arguments, over_block, over_blocks, over_segments
from spikeloom.compiler.cpu.writer import Parameter, Segment, Variant, Writer, driver
from spikeloom.compiler.emit import indent
from spikeloom.compiler.front.trace import Trace


def backward_source(trace: Trace, variant: Variant) -> str:
    """The module whose `run_backward` recomputes the states of a block and walks it back through
    time.
    """
    writer = Writer(trace, variant)
    states = writer.states
    again, again_text = _recompute(writer)
    back, back_text = _adjoint(writer)

    carried = pieces.carried(states)
    begin = [
        *pieces.copied_in(writer, pieces.at_time(states, "0"), "a", "m"),
        *pieces.copied_in(writer, carried, "a", "m", "grad_final", "ZERO", "has_grad_final"),
    ]
    if "x" in variant.gradients and variant.static:
        begin.append("fill(gx[a : a + m], ZERO)")
    # a coef that is the same at every step is summed over the whole block before it is added up
    clear, add_up = [], []
    for j, var in enumerate(writer.vectors):
        place = pieces.vector_sum(states, j)
        clear += [
            f"if {var}timed or t == T - 1:",
            f"    fill(scratch[{place} : {place} + m], ZERO)",
        ]
        add_up += [
            f"if {var}timed or t == 0:",
            f"    at = (h * {var}times + t * {var}timed) * {var}width + c0",
            "    for i in range(m):",
            f"        part_{var}[at + i] += scratch[{place} + i]",
        ]
    block = [
        *over_block(variant.nest, begin),
        "for t in range(T - 1):",
        *indent(over_segments(variant.nest, again)),
        "for t in range(T - 1, -1, -1):",
        *indent([*clear, *over_segments(variant.nest, back), *add_up]),
        *pieces.only_if(
            "want_grad_start",
            over_block(variant.nest, pieces.copied_out(writer, carried, "a", "m", "grad_start")),
        ),
    ]
    return writer.module(
        "Backward",
        again_text,
        back_text,
        driver(
            "run_backward",
            backward_parameters(trace, variant),
            variant.storage,
            over_blocks(variant.nest, block),
        ),
    )


def backward_parameters(trace: Trace, variant: Variant) -> list[Parameter]:
    """What the driver is told, in this order."""
    signature = trace.signature
    states, coefs = emit.state_names(signature.states), emit.coef_names(signature.coefs)
    kinds = {"start": "reals", "rest": "real", "grad_final": "reals", "grad_start": "reals"}
    # the gradient of a constant input is summed over time, in the precision of a sum
    gx = ("gx", "reals" if variant.static else "storage")
    return [
        *((name, "integer") for name in geometry_arguments(variant.nest)),
        *(("x", "storage"), ("x_time", "integer"), ("g", "storage"), ("g_time", "integer"), gx),
        *((name, "flag") for name in ("has_start", "has_grad_final", "want_grad_start")),
        *((f"{var}{what}", kind) for var in states for what, kind in kinds.items()),
        *pieces.coef_parameters(trace),
        *(
            parameter
            for name, var in zip(signature.coefs, coefs, strict=True)
            if name in variant.gradients
            for parameter in (
                (f"part_{var}", "sums"),
                *((f"{var}{what}", "integer") for what in ("times", "timed", "width")),
            )
        ),
    ]


def _recompute(writer: Writer) -> tuple[list[str], str]:
    """The forward step without its output: a call that writes the states of t + 1, and its text.

    The same code as the forward pass, or the adjoint would belong to other spikes.
    """
    step, states = writer.step, writer.states
    segment = Segment("segment", "recompute_segment")
    x = segment.array("x", "x", pieces.X_AT)
    before = pieces.Carried(writer, segment, pieces.at_time(states, "t"))
    after = pieces.Carried(writer, segment, pieces.at_time(states, "(t + 1)"), "{}next")
    inputs = {"x": "x_i"} | before.inputs() | pieces.coef_inputs(writer, segment)
    lines, results = writer.lines(writer.trace.forward.select(step.states), inputs)
    body = [f"x_i = {writer.load('x', x)}", *before.reads(), *lines, *after.writes(results)]
    return segment.call(), segment.text(body)


def _adjoint(writer: Writer) -> tuple[list[str], str]:
    """One step back in time: gradients of x, of the states (in place), and of the coefs."""
    step, states, variant = writer.step, writer.states, writer.variant
    wants_x = "x" in variant.gradients
    segment = Segment("adjoint", "adjoint_segment")
    x = segment.array("x", "x", pieces.X_AT)
    g = segment.array("g", "g", "t * g_time + a")
    gx = segment.array("gx", "gx", "a" if variant.static else "t * n + a") if wants_x else ""
    before = pieces.Carried(writer, segment, pieces.at_time(states, "t"))
    carried = pieces.Carried(writer, segment, pieces.carried(states), "g_{}")
    inputs = {"x": "x_i", "grad:spikes": "g_i"} | before.inputs() | carried.inputs("grad:")
    inputs |= pieces.coef_inputs(writer, segment)
    sum_at = {
        var: segment.array(f"sum_{var}", "scratch", pieces.vector_sum(states, j))
        for j, var in enumerate(writer.vectors)
    }
    names = (*["x"] * wants_x, *step.states, *writer.leaves)
    gradients = [f"grad:{name}" for name in names]
    lines, results = writer.lines(writer.trace.adjoint.select(gradients), inputs)
    body = [
        f"x_i = {writer.load('x', x)}",
        f"g_i = {writer.load('g', g)}",
        *before.reads(),
        *carried.reads(),
        *lines,
    ]
    if wants_x and variant.static:
        body.append(f"gx[{gx}] = gx[{gx}] + {results['grad:x']}")
    elif wants_x:
        body.append(f"gx[{gx}] = {writer.store(results['grad:x'])}")
    body += carried.writes(results, "grad:")
    call, text = pieces.summed(writer, segment, body, sum_at, results)
    for var in writer.scalars:
        column = f"c * {var}channel" if variant.nest == "row" else "0"
        call.append(
            f"part_{var}[(part * {var}times + t * {var}timed) * {var}width + {column}] += sum_{var}"
        )
    return call, text


def backward_scratch(trace: Trace, variant: Variant, time_steps: int) -> int:
    """How many blocks of scratch the backward driver needs."""
    count = len(trace.signature.states)
    return count * time_steps + count + len(variant.vectors & variant.gradients)
