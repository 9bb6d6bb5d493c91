"""CPU kernels of a recurrent layer: a traced step and a matrix of feedback R, all time steps in one
driver.

    r_t = R s_{t-1}
    s_t, states_t = step(x_t + r_t, states_{t-1})       or, into a state, with r_t added to that

A part is `high` samples, walked together through time: the rows of R that one of them reads are
still in cache when the next one asks. Forward adds up the rows of R^T of the neurons that fired.
Backward takes r from memory, recomputes the states, and goes back with one small matrix product a
step: what the spikes of t - 1 owe to the step t.

Coefs are single numbers or vectors of one value per neuron (`Variant.vectors`).
"""

from spikeloom.compiler.cpu.pieces import (
    Carried,
    copied_in,
    copied_out,
    only_if,
    placed_coefs,
    summed,
)
from spikeloom.compiler.cpu.writer import Segment, Variant, Writer, function
from spikeloom.compiler.emit import indent
from spikeloom.compiler.front.trace import Trace

INPUT = -1
"""The place of a feedback that joins the input; others are the numbers of states."""

GEOMETRY = ("first", "last", "high", "T", "B", "F")
X_AT = "t * x_time + row * x_row"
R_AT = "t * r_time + row * F"
OUT_AT = "(t * B + row) * F"


def forward_source(trace: Trace, variant: Variant, place: int) -> str:
    """The module whose `run_forward` writes spikes, feedback, final states, and the number of
    spikes that each part heard."""
    writer = Writer(trace, variant)
    writer.calls["compiler.cpu.rows"] = "active", "add_any_rows"
    step, states = trace.signature, writer.states
    at = [f"{j} * high * F + b" for j in range(len(states))]
    segment = Segment("segment", "forward_segment")
    inputs, reads, carried = _step_inputs(writer, segment, place, at)
    out = segment.array("out", "out", OUT_AT)
    lines, results = writer.lines(trace.forward.select(("spikes", *step.states)), inputs)
    spikes = f"out[{out}] = {results['spikes']}"
    body = [*reads, *lines, spikes, *carried.writes(results)]
    block = [
        *_per_row(copied_in(writer, at, "row * F", "F")),
        "for t in range(T):",
        "    for row in range(row0, row1):",
        "        b = (row - row0) * F",
        f"        fill(r[{R_AT} : {R_AT} + F], ZERO)",
        "        fired = 0",
        "        if t > 0:",
        f"            fired = active(out, u8({OUT_AT} - B * F), F, places, kept)",
        "        elif has_start:",
        "            fired = active(heard, u8(row * F), F, places, kept)",
        "        counts[part] += fired",
        f"        add_any_rows(F, r, {R_AT}, weight, 0, F, places, kept, 0, fired)",
        "        m = F",
        *indent(segment.call(), 2),
        *_per_row(only_if("want_final", copied_out(writer, at, "row * F", "F", "final"))),
    ]
    arguments = [
        *GEOMETRY,
        *("x", "x_time", "x_row", "out", "r", "r_time", "weight"),
        *("heard", "has_start", "want_final"),
        *(f"{var}{what}" for var in states for what in ("start", "rest", "final")),
        *writer.coefs,
        *("scratch", "places", "kept", "counts"),
    ]
    return writer.module(
        "Recurrent forward",
        segment.text(body),
        function("driver", "run_forward", arguments, _over_parts(block)),
    )


def backward_source(trace: Trace, variant: Variant, place: int) -> str:
    """The module whose `run_backward` writes the gradients of the input, of the feedback `gr` (into
    the input: the same, `gr` is not written), of initial states and spikes, and of coefs."""
    writer = Writer(trace, variant)
    writer.calls["compiler.cpu.products"] = ("product",)
    states = writer.states
    count = len(states)
    carried = [f"({count} * T + {j}) * high * F + b" for j in range(count)]
    owed = f"({count} * T + {count}) * high * F"
    sums = [f"({count} * T + {count + 1}) * high * F + {j} * F" for j in range(len(writer.vectors))]
    again, again_text = _recompute(writer, place)
    sum_at = dict(zip(writer.vectors, sums, strict=True))
    back, back_text = _adjoint(writer, place, carried, owed, sum_at)
    felt = "gx" if place == INPUT else "gr"
    first = [f"{j} * T * high * F + b" for j in range(count)]
    start = [
        *copied_in(writer, first, "row * F", "F"),
        *copied_in(writer, carried, "row * F", "F", "grad_final", "ZERO", "has_grad_final"),
    ]
    keep_felt = []
    if place != INPUT:
        at = carried[place]
        keep_felt = [f"copy(gr[{OUT_AT} : {OUT_AT} + F], scratch[{at} : {at} + F])"]
    started = copied_out(writer, carried, "row * F", "F", "grad_start")
    heard = f"copy(grad_heard[row * F : row * F + F], scratch[{owed} + b : {owed} + b + F])"
    block = [
        *_per_row(start),
        *(f"fill(scratch[{at} : {at} + F], ZERO)" for at in sums),
        f"fill(scratch[{owed} : {owed} + high * F], ZERO)",
        "for t in range(T - 1):",
        *indent(_per_row(again)),
        "for t in range(T - 1, -1, -1):",
        *indent(_per_row([*back, *keep_felt])),
        "    if t > 0 or has_start:",
        f"        product(scratch, {owed}, F, weight, F, {felt}, (t * B + row0) * F, row1 - row0)",
        *only_if("has_start", _per_row([*started, heard])),
        *(
            line
            for var, at in sum_at.items()
            for line in (
                "for i in range(F):",
                f"    part_{var}[part * F + i] = scratch[{at} + i]",
            )
        ),
    ]
    arguments = [
        *GEOMETRY,
        *("x", "x_time", "x_row", "r", "r_time", "weight", "g", "g_time", "g_row", "gx", "gr"),
        *("has_start", "has_grad_final", "grad_heard"),
        *(
            f"{var}{what}"
            for var in states
            for what in ("start", "rest", "grad_final", "grad_start")
        ),
        *writer.coefs,
        *(f"part_{writer.coef(name)}" for name in writer.leaves),
        "scratch",
    ]
    return writer.module(
        "Recurrent backward",
        again_text,
        back_text,
        function("driver", "run_backward", arguments, _over_parts(block)),
    )


OUTER = """
import numpy as np

from spikeloom.compiler.cpu.jit import driver
from spikeloom.compiler.cpu.rows import outer


@driver
def run_outer(out, width, first, last, spikes, grads, count, places, kept):
    outer(out, width, first, last, spikes, grads, count, places, kept)
"""
"""The module of the gradient of R: `rows.outer` as Python calls it."""


def scratch_size(trace: Trace, time_steps: int, high: int, features: int) -> int:
    """Numbers of scratch that the backward driver needs; the forward driver needs fewer."""
    count, coefs = len(trace.signature.states), len(trace.signature.coefs)
    return (count * time_steps + count + 1) * high * features + coefs * features


def _recompute(writer: Writer, place: int) -> tuple[list[str], str]:
    """The forward step without its output: a call that writes the states before t + 1, and its
    text."""
    segment = Segment("segment", "recompute_segment")
    inputs, reads, _ = _step_inputs(writer, segment, place, _recorded(writer, "t"))
    after = Carried(writer, segment, _recorded(writer, "(t + 1)"), "{}next")
    lines, results = writer.lines(writer.trace.forward.select(writer.step.states), inputs)
    body = [*reads, *lines, *after.writes(results)]
    return segment.call(), segment.text(body)


def _adjoint(
    writer: Writer, place: int, carried: list[str], owed: str, sums: dict[str, str]
) -> tuple[list[str], str]:
    """One step back in time: gradients of x, of the states (in place), of the coefs."""
    segment = Segment("adjoint", "adjoint_segment")
    inputs, reads, _ = _step_inputs(writer, segment, place, _recorded(writer, "t"))
    g = segment.array("g", "g", "t * g_time + row * g_row")
    due = segment.array("due", "scratch", f"{owed} + b")
    gx = segment.array("gx", "gx", OUT_AT)
    grads = Carried(writer, segment, carried, "g_{}")
    sum_at = {var: segment.array(f"sum_{var}", "scratch", at) for var, at in sums.items()}
    inputs |= {"grad:spikes": "g_i"} | grads.inputs("grad:")
    gradients = [f"grad:{name}" for name in ("x", *writer.step.states, *writer.leaves)]
    lines, results = writer.lines(writer.trace.adjoint.select(gradients), inputs)
    body = [*reads, f"g_i = g[{g}] + due[{due}]", *grads.reads(), *lines]
    body += [f"gx[{gx}] = {results['grad:x']}", *grads.writes(results, "grad:")]
    call, text = summed(writer, segment, body, sum_at, results)
    return [*call, *(f"part_{var}[part] += sum_{var}" for var in writer.scalars)], text


def _step_inputs(
    writer: Writer, segment: Segment, place: int, state_at: list[str]
) -> tuple[dict[str, str], list[str], Carried]:
    """What a step reads, as arguments of a segment: the expression of each input, the lines before
    them, and the states, which lie at `state_at` in scratch."""
    x = segment.array("x", "x", X_AT)
    r = segment.array("r", "r", R_AT)
    carried = Carried(writer, segment, state_at)
    reads = [f"x_i = x[{x}]", *carried.reads()]
    reads[0 if place == INPUT else 1 + place] += f" + r[{r}]"
    inputs = {"x": "x_i"} | carried.inputs() | placed_coefs(writer, segment, "0", "{0}")
    return inputs, reads, carried


def _recorded(writer: Writer, time: str) -> list[str]:
    """Where the states before step `time` lie in the backward driver's scratch."""
    return [f"({j} * T + {time}) * high * F + b" for j in range(len(writer.states))]


def _per_row(lines: list[str]) -> list[str]:
    return [
        "for row in range(row0, row1):",
        "    b = (row - row0) * F",
        "    m = F",
        *indent(lines),
    ]


def _over_parts(block: list[str]) -> list[str]:
    return [
        "for part in range(first, last):",
        "    row0 = part * high",
        "    row1 = min(row0 + high, B)",
        *indent(block),
    ]
