"""The forward kernel of the CPU: a traced step written out as numba functions.

A kernel is a readable module with two layers. A *segment* is the step (or its recomputation, or its
adjoint) as one loop over contiguous elements of one time step. A *driver* walks a block of neurons
through all time steps, calling segments; a block is small enough that its states stay in cache, so
that nothing but the input has to be saved for the backward pass.
"""

from spikeloom.compiler import emit
from spikeloom.compiler.cpu import pieces
from spikeloom.compiler.cpu.loops import geometry_arguments, over_block, over_blocks, over_segments
from spikeloom.compiler.cpu.writer import Parameter, Segment, Variant, Writer, driver
from spikeloom.compiler.emit import indent
from spikeloom.compiler.front.trace import Trace


def forward_source(trace: Trace, variant: Variant) -> str:
    """The module whose `run_forward` writes spikes, final states and records."""
    writer = Writer(trace, variant)
    step, states = trace.signature, writer.states
    segment = Segment("segment", "forward_segment")
    x = segment.array("x", "x", pieces.X_AT)
    out = segment.array("out", "out", "t * n + a")
    places = pieces.places(states)
    carried = pieces.Carried(writer, segment, places)
    records = [f"record_{name}_" for name in variant.record]
    record_at = {array: segment.array(array, array, "t * n + a") for array in records}
    inputs = {"x": "x_i"} | carried.inputs() | pieces.coef_inputs(writer, segment)
    lines, results = writer.lines(
        trace.forward.select(("spikes", *step.states, *variant.record)), inputs
    )
    body = [
        f"x_i = {writer.load('x', x)}",
        *carried.reads(),
        *lines,
        f"out[{out}] = {writer.store(results['spikes'])}",
        *carried.writes(results),
        *(
            f"{array}[{record_at[array]}] = {results[n]}"
            for n, array in zip(variant.record, records, strict=True)
        ),
    ]
    block = [
        *over_block(variant.nest, pieces.copied_in(writer, places, "a", "m")),
        "for t in range(T):",
        *indent(over_segments(variant.nest, segment.call())),
        *pieces.only_if(
            "want_final",
            over_block(variant.nest, pieces.copied_out(writer, places, "a", "m", "final")),
        ),
    ]
    return writer.module(
        "Forward",
        segment.text(body),
        driver(
            "run_forward",
            forward_parameters(trace, variant),
            variant.storage,
            over_blocks(variant.nest, block),
        ),
    )


def forward_parameters(trace: Trace, variant: Variant) -> list[Parameter]:
    """What the driver is told, in this order."""
    states = emit.state_names(trace.signature.states)
    kinds = {"start": "reals", "rest": "real", "final": "reals"}
    return [
        *((name, "integer") for name in geometry_arguments(variant.nest)),
        *(("x", "storage"), ("x_time", "integer"), ("out", "storage")),
        *(("has_start", "flag"), ("want_final", "flag")),
        *((f"{var}{what}", kind) for var in states for what, kind in kinds.items()),
        *pieces.coef_parameters(trace),
        *((f"record_{name}_", "reals") for name in variant.record),
    ]
