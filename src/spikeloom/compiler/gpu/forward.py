"""The forward kernel: a traced step for a tile of neurons, from the first time step to the last,
with the states in registers."""

from spikeloom.compiler.emit import indent
from spikeloom.compiler.front.trace import Trace
from spikeloom.compiler.gpu import loops, pieces
from spikeloom.compiler.gpu.writer import Variant, Writer


def forward_source(trace: Trace, variant: Variant) -> str:
    """The module whose `run_forward` writes spikes, final states and records of one tile a
    program."""
    writer = Writer(trace, variant)
    step, states = writer.step, writer.states
    inputs = {"x": "x_t"} | dict(zip(step.states, states, strict=True))
    inputs |= pieces.coef_inputs(writer)
    graph = trace.forward.select(("spikes", *step.states, *variant.record))
    lines, results = writer.lines(graph, inputs, "t", exact=True)
    records = [f"record_{name}_" for name in variant.record]
    loop = [
        *pieces.timed_loads(writer, "t", ""),
        *lines,
        "tl.store(out + at, " + writer.stored(results["spikes"], "out") + ", mask=keep)",
        *(
            f"tl.store({array} + at, {writer.spread(results[name])}, mask=keep)"
            for name, array in zip(variant.record, records, strict=True)
        ),
        *(
            f"next_{var} = {writer.spread(results[name])}"
            for name, var in zip(step.states, states, strict=True)
        ),
        *(f"{var} = next_{var}" for var in states),
        *(f"{array} += n" for array in ("out", *records)),
    ]
    x_now = f"x_t = tl.load(x + at, mask=keep, other=0).to({writer.real})"
    if variant.static:
        time = [x_now, "for t in range(T):", *indent(loop)]
    else:
        # the input of the next step is on its way while this one is computed
        time = [
            "x_next = tl.load(x + at, mask=keep, other=0)",
            "for t in range(T):",
            f"    x_t = x_next.to({writer.real})",
            "    x += tl.where(t + 1 < T, x_time, 0)",
            "    x_next = tl.load(x + at, mask=keep, other=0)",
            *indent(loop),
        ]
    # the one tile of a program
    if variant.nest == "row":
        tile = loops.row_tile("tile", variant.flat, variant.quads, variant.index)
    else:
        tile = loops.vec_columns("(tile % column_tiles)")
        tile += loops.vec_rows("(tile // column_tiles)", variant.index)
    body = [
        loops.lanes(variant.nest),
        "tile = tl.program_id(0)",
        *tile,
        *pieces.constant_loads(writer),
        *pieces.start_lines(writer),
        *time,
        *(f"tl.store({var}final + at, {var}, mask=keep)" for var in states if variant.finals),
    ]
    arguments = [
        *("x", "out", "T"),
        *([] if variant.static else ["x_time"]),
        *loops.sizes(variant.nest),
        *(f"{var}start" for var in states if variant.starts),
        *(f"{var}final" for var in states if variant.finals),
        *pieces.coef_parameters(writer),
        *records,
        *loops.constants(variant.nest),
    ]
    return writer.module("Forward", "run_forward", arguments, body)
