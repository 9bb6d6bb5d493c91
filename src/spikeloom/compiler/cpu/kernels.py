"""CPU kernels: a traced step written out as numba functions.

A kernel is a readable module with two layers. A *segment* is the step (or its recomputation, or its
adjoint) as one loop over contiguous elements of one time step. A *driver* walks a block of neurons
through all time steps, calling segments; a block is small enough that its states stay in cache, so
that nothing but the input has to be saved for the backward pass.
"""

import numpy as np

from spikeloom.compiler.cpu.nests import geometry_arguments, over_block, over_blocks, over_segments
from spikeloom.compiler.cpu.writer import Segment, Variant, Writer, function
from spikeloom.compiler.emit import indent
from spikeloom.compiler.trace import Trace

X_AT = "t * x_time + a"


def forward_source(trace: Trace, variant: Variant) -> str:
    """The module whose `run_forward` writes spikes, final states and records."""
    writer = Writer(trace, variant, backward=False)
    step, states = trace.signature, writer.states
    segment = Segment("segment", "forward_segment")
    x = segment.array("x", "x", X_AT)
    out = segment.array("out", "out", "t * n + a")
    at = {own: segment.array(own, "scratch", _place(j)) for j, own in enumerate(states)}
    records = [f"record_{name}_" for name in variant.record]
    record_at = {array: segment.array(array, array, "t * n + a") for array in records}
    inputs = {"x": "x_i"} | {n: f"{own}i" for n, own in zip(step.states, states, strict=True)}
    inputs |= _coef_inputs(writer, segment)

    lines, results = writer.lines(
        trace.forward.select(("spikes", *step.states, *variant.record)), inputs
    )
    body = [
        f"x_i = {writer.load('x', x)}",
        *(f"{own}i = {own}[{at[own]}]" for own in states),
        *lines,
        f"out[{out}] = {writer.store(results['spikes'])}",
        *(f"{own}[{at[own]}] = {results[n]}" for n, own in zip(step.states, states, strict=True)),
        *(
            f"{array}[{record_at[array]}] = {results[n]}"
            for n, array in zip(variant.record, records, strict=True)
        ),
    ]
    block = [
        *over_block(variant.nest, _start_lines(writer)),
        "for t in range(T):",
        *indent(over_segments(variant.nest, segment.call())),
        *_if(
            "want_final",
            over_block(
                variant.nest,
                [
                    f"copy({own}final[a : a + m], {_slice(_place(j))})"
                    for j, own in enumerate(states)
                ],
            ),
        ),
    ]
    arguments = [
        *geometry_arguments(variant.nest),
        *("x", "x_time", "out", "has_start", "want_final"),
        *(a for own in states for a in (f"{own}start", f"{own}rest", f"{own}final")),
        *_coef_parameters(writer),
        *records,
        "scratch",
    ]
    return writer.module(
        "Forward",
        segment.text(body, [], "None"),
        function("driver", "run_forward", arguments, over_blocks(variant.nest, block)),
    )


def backward_source(trace: Trace, variant: Variant) -> str:
    """The module whose `run_backward` recomputes the states of a block and walks it back through
    time.
    """
    writer = Writer(trace, variant, backward=True)
    step, states = trace.signature, writer.states
    count = len(states)
    leaves = [name for name in step.coefs if name in variant.gradients]
    vectors = [writer.coef(name) for name in leaves if name in variant.vectors]
    again, again_text = _recompute(writer)
    back, back_text = _adjoint(writer, leaves)

    start_lines = _start_lines(writer)
    for j, own in enumerate(states):
        carried = _slice(_carried(count, j))
        start_lines += [
            "if has_grad_final:",
            f"    copy({carried}, {own}grad_final[a : a + m])",
            "else:",
            f"    fill({carried}, ZERO)",
        ]
    if "x" in variant.gradients and variant.static:
        start_lines.append("fill(gx[a : a + m], ZERO)")
    # a coef that is the same at every step is summed over the whole block before it is added up
    clear = [
        line
        for j, own in enumerate(vectors)
        for line in (
            f"if {own}timed or t == T - 1:",
            f"    fill(scratch[{_vector_sum(count, j)} : {_vector_sum(count, j)} + m], ZERO)",
        )
    ]
    add_up = [
        line
        for j, own in enumerate(vectors)
        for line in (
            f"if {own}timed or t == 0:",
            f"    at = (h * {own}times + t * {own}timed) * {own}width + c0",
            "    for i in range(m):",
            f"        part_{own}[at + i] += scratch[{_vector_sum(count, j)} + i]",
        )
    ]
    block = [
        *over_block(variant.nest, start_lines),
        "for t in range(T - 1):",
        *indent(over_segments(variant.nest, again)),
        "for t in range(T - 1, -1, -1):",
        *indent([*clear, *over_segments(variant.nest, back), *add_up]),
        *_if(
            "want_grad_start",
            over_block(
                variant.nest,
                [
                    f"copy({own}grad_start[a : a + m], {_slice(_carried(count, j))})"
                    for j, own in enumerate(states)
                ],
            ),
        ),
    ]
    arguments = [
        *geometry_arguments(variant.nest),
        *("x", "x_time", "g", "g_time", "gx"),
        *("has_start", "has_grad_final", "want_grad_start"),
        *(
            f"{own}{what}"
            for own in states
            for what in ("start", "rest", "grad_final", "grad_start")
        ),
        *_coef_parameters(writer),
        *(
            argument
            for own in map(writer.coef, leaves)
            for argument in (f"part_{own}", f"{own}times", f"{own}timed", f"{own}width")
        ),
        "scratch",
    ]
    return writer.module(
        "Backward",
        again_text,
        back_text,
        function("driver", "run_backward", arguments, over_blocks(variant.nest, block)),
    )


def _recompute(writer: Writer) -> tuple[list[str], str]:
    """The forward step without its output: a call that writes the states of t + 1, and its text.

    The same code as the forward pass, or the adjoint would belong to other spikes.
    """
    step, states = writer.trace.signature, writer.states
    segment = Segment("segment", "recompute_segment")
    x = segment.array("x", "x", X_AT)
    at = {own: segment.array(own, "scratch", _at(j, "t")) for j, own in enumerate(states)}
    after = {
        own: segment.array(f"{own}next", "scratch", _at(j, "(t + 1)"))
        for j, own in enumerate(states)
    }
    inputs = {"x": "x_i"} | {n: f"{own}i" for n, own in zip(step.states, states, strict=True)}
    inputs |= _coef_inputs(writer, segment)
    lines, results = writer.lines(writer.trace.forward.select(step.states), inputs)
    body = [
        f"x_i = {writer.load('x', x)}",
        *(f"{own}i = {own}[{at[own]}]" for own in states),
        *lines,
        *(
            f"{own}next[{after[own]}] = {results[n]}"
            for n, own in zip(step.states, states, strict=True)
        ),
    ]
    return segment.call(), segment.text(body, [], "None")


def _adjoint(writer: Writer, leaves: list[str]) -> tuple[list[str], str]:
    """One step back in time: gradients of x, of the states (in place), and of the coefs
    `leaves`.
    """
    step, states, variant = writer.trace.signature, writer.states, writer.variant
    count = len(states)
    wants_x = "x" in variant.gradients
    segment = Segment("adjoint", "adjoint_segment")
    x = segment.array("x", "x", X_AT)
    g = segment.array("g", "g", "t * g_time + a")
    gx = segment.array("gx", "gx", "a" if variant.static else "t * n + a") if wants_x else ""
    at = {own: segment.array(own, "scratch", _at(j, "t")) for j, own in enumerate(states)}
    grad_at = {
        own: segment.array(f"g_{own}", "scratch", _carried(count, j))
        for j, own in enumerate(states)
    }
    inputs = {"x": "x_i", "grad:spikes": "g_i"}
    for name, own in zip(step.states, states, strict=True):
        inputs |= {name: f"{own}i", f"grad:{name}": f"g_{own}i"}
    inputs |= _coef_inputs(writer, segment)
    scalars = [writer.coef(name) for name in leaves if name not in variant.vectors]
    vectors = [writer.coef(name) for name in leaves if name in variant.vectors]
    sum_at = {
        own: segment.array(f"sum_{own}", "scratch", _vector_sum(count, j))
        for j, own in enumerate(vectors)
    }
    wanted = [*(["grad:x"] if wants_x else []), *(f"grad:{n}" for n in (*step.states, *leaves))]
    lines, results = writer.lines(writer.trace.adjoint.select(wanted), inputs)
    body = [
        f"x_i = {writer.load('x', x)}",
        f"g_i = {writer.load('g', g)}",
        *(f"{own}i = {own}[{at[own]}]" for own in states),
        *(f"g_{own}i = g_{own}[{grad_at[own]}]" for own in states),
        *lines,
    ]
    if wants_x and variant.static:
        body.append(f"gx[{gx}] = gx[{gx}] + {results['grad:x']}")
    elif wants_x:
        body.append(f"gx[{gx}] = {writer.store(results['grad:x'])}")
    for name, own in zip(step.states, states, strict=True):
        body.append(f"g_{own}[{grad_at[own]}] = {results[f'grad:{name}']}")
    for name in leaves:
        target = f"sum_{writer.coef(name)}"
        if writer.coef(name) in sum_at:
            target += f"[{sum_at[writer.coef(name)]}]"
        body.append(f"{target} = {target} + {results[f'grad:{name}']}")

    call = segment.call()
    if scalars:
        call[0] = f"{', '.join(f'sum_{own}' for own in scalars)} = {call[0]}"
    for own in scalars:
        column = f"c * {own}channel" if variant.nest == "row" else "0"
        call.append(
            f"part_{own}[(part * {own}times + t * {own}timed) * {own}width + {column}] += sum_{own}"
        )
    text = segment.text(
        body,
        [f"sum_{own} = ZERO" for own in scalars],
        ", ".join(f"sum_{own}" for own in scalars) or "None",
    )
    return call, text


# Scratch of the forward driver: one block of each state. Of the backward driver: each state at each
# of T time steps, then each state's carried gradient, then each vector sum.


def backward_scratch(trace: Trace, variant: Variant, time_steps: int) -> int:
    """How many blocks of scratch the backward driver needs."""
    count = len(trace.signature.states)
    return count * time_steps + count + len(variant.vectors & variant.gradients)


def _place(j: int) -> str:
    return f"{j} * stride + b"


def _at(j: int, time: str) -> str:
    return f"({j} * T + {time}) * stride + b"


def _carried(count: int, j: int) -> str:
    return f"({count} * T + {j}) * stride + b"


def _vector_sum(count: int, j: int) -> str:
    return f"({count} * T + {count + j}) * stride"


def _slice(place: str) -> str:
    return f"scratch[{place} : {place} + m]"


def _start_lines(writer: Writer) -> list[str]:
    """The states before the first step: as given, or at rest."""
    return [
        line
        for j, own in enumerate(writer.states)
        for line in (
            "if has_start:",
            f"    copy({_slice(_start_place(writer, j))}, {own}start[a : a + m])",
            "else:",
            f"    fill({_slice(_start_place(writer, j))}, {own}rest)",
        )
    ]


def _start_place(writer: Writer, j: int) -> str:
    return _at(j, "0") if writer.backward else _place(j)


def _if(condition: str, lines: list[str]) -> list[str]:
    return [f"if {condition}:", *indent(lines)] if lines else []


def _coef_inputs(writer: Writer, segment: Segment) -> dict[str, str]:
    """The coefs as arguments of a segment; returns the expression of each inside its loop."""
    variant = writer.variant
    inputs = {}
    for name, own in zip(writer.trace.signature.coefs, writer.coefs, strict=True):
        if name in variant.vectors:
            at = segment.array(own, own, f"t * {own}time + c0")
            inputs[name] = f"{own}[{at}]"
        else:
            channel = f" + c * {own}channel" if variant.nest == "row" else ""
            segment.scalar(own, f"{own}[t * {own}time{channel}]")
            inputs[name] = own
    return inputs


def _coef_parameters(writer: Writer) -> list[str]:
    """A coef as arguments of a driver: the array, and its strides over time and channels."""
    return [a for own in writer.coefs for a in (own, f"{own}time", f"{own}channel")]


def real_type(trace: Trace) -> type[np.floating]:
    """The numpy type of states and sums."""
    return np.float64 if trace.double else np.float32
