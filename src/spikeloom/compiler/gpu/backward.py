"""The backward kernel: a traced step's adjoint for tiles of neurons, from the last time step to the
first.

Nothing but the input was saved. The kernel goes over the time steps in segments of K: it walks
forward once, writing down the states at the start of each segment; then back, segment by segment,
recomputing the states inside one in registers. With one segment (`whole`) nothing is written down;
with K = 1 nothing is recomputed.
"""

from spikeloom.compiler.emit import indent
from spikeloom.compiler.front.trace import Trace
from spikeloom.compiler.gpu import loops, pieces
from spikeloom.compiler.gpu.writer import Variant, Writer


def backward_source(trace: Trace, variant: Variant) -> str:
    """The module whose `run_backward` writes all gradients of the tiles that fall to a program.

    There are as many programs as the device runs at once, so that what they write down stays in
    its cache.
    """
    writer = Writer(trace, variant)
    states, shape = writer.states, writer.shape
    tile = [
        *pieces.start_lines(writer),
        *([] if variant.whole else _write_down(writer)),
        *(
            f"g_{var} = tl.load({var}grad_final + at, mask=keep, other=0)"
            if variant.grad_finals
            else f"g_{var} = tl.zeros({shape}, {writer.real})"
            for var in states
        ),
        *_walk_back(writer),
        *(
            f"tl.store({var}grad_start + at, g_{var}, mask=keep)"
            for var in states
            if variant.grad_starts
        ),
    ]
    clear = [
        f"sum_{writer.coef(name)} = tl.zeros({shape}, {writer.real})"
        for name in writer.leaves
        if name not in writer.step.time_coefs
    ]
    notes = "notes = scratch + tl.cast(program, tl.int64) * program_notes"
    body = [
        loops.lanes(variant.nest),
        "program = tl.program_id(0)",
        *([] if variant.whole else [notes]),
        *_over_tiles(writer, clear, tile, _add_up(writer)),
    ]
    moving = ["g", *([] if variant.static else ["x"]), *["gx"] * variant.writes_gx_by_step]
    arguments = [
        *("x", "g", "T", "g_time"),
        *([] if variant.static else ["x_time"]),
        *(["gx"] if "x" in variant.gradients else []),
        *([] if variant.whole else ["scratch", "program_notes", "segments"]),
        *(f"{name}_{what}" for name in moving for what in ("jump", "last") if not variant.whole),
        *(["programs"] if variant.nest == "row" else ["shares"]),
        *loops.sizes(variant.nest),
        *(f"{var}start" for var in states if variant.starts),
        *(f"{var}grad_final" for var in states if variant.grad_finals),
        *(f"{var}grad_start" for var in states if variant.grad_starts),
        *pieces.coef_parameters(writer),
        *(f"part_{writer.coef(name)}" for name in writer.leaves),
        *loops.constants(variant.nest),
    ]
    return writer.module("Backward", "run_backward", arguments, body)


def _write_down(writer: Writer) -> list[str]:
    """Forward through time, leaving in `note` the states at the start of the last segment."""
    states, variant = writer.states, writer.variant
    walk: list[str] = []
    for j in range(variant.K):
        walk += [
            *pieces.timed_loads(writer, f"(q * {variant.K} + {j})", f"_{j}"),
            *_load_x(writer, "x_t", "x_now"),
            *_recompute(writer, f"w{j}_", "x_t", states, states, f"_{j}"),
            *([] if variant.static else ["x_now += x_time"]),
        ]
    note = [f"tl.store(note + {_noted(variant, j)} + lane, {var})" for j, var in enumerate(states)]
    return [
        "note = notes",
        *([] if variant.static else ["x_now = x"]),
        "for q in range(segments - 1):",
        *indent([*note, f"note += {_noted(variant, len(states))}", *walk]),
        *note,
        # other threads may read what this one wrote
        "tl.debug_barrier()",
    ]


def _walk_back(writer: Writer) -> list[str]:
    """From the last segment to the first: states again, then the adjoint of each step."""
    states, variant = writer.states, writer.variant
    steps = range(variant.K)
    # what is walked through, each with its way from step to step
    moving = {"x": "x_time", "g": "g_time", "gx": "n"}
    if variant.static:
        del moving["x"]
    if not variant.writes_gx_by_step:
        del moving["gx"]
    segment: list[str] = []
    if not variant.whole:
        notes = [f"note + {_noted(variant, j)} + lane" for j in range(len(states))]
        segment.append("q = segments - 1 - back")
        segment += [f"{var} = tl.load({at})" for var, at in zip(states, notes, strict=True)]
        segment.append(f"note -= {_noted(variant, len(states))}")
    time = "" if variant.whole else f"q * {variant.K} + "
    for j in steps:  # all loads of the segment first: they wait for each other's company only
        keep = "keep"
        if variant.ragged:
            segment.append(f"keep_{j} = keep & ({time}{j} < T)")
            keep = f"keep_{j}"
        for name, step in moving.items():
            at = f"{name}_at{j}"
            segment.append(f"{at} = " + (f"{name}_at{j - 1} + {step}" if j else f"{name}_now"))
            if name != "gx":
                load = f"tl.load({at} + at, mask={keep}, other=0)"
                segment.append(f"{name}_{j} = {load}.to({writer.real})")
        place = _step_place(variant, f"({time}{j})")
        segment += pieces.timed_loads(writer, place, f"_{j}")
    before = list(states)
    places = [before]
    for j in steps[:-1]:
        after = [f"{var}at{j + 1}" for var in states]
        x_j = "x_0" if variant.static else f"x_{j}"
        segment += _recompute(writer, f"r{j}_", x_j, before, after, f"_{j}")
        places.append(after)
        before = after
    for j in reversed(steps):
        segment += _adjoint(writer, j, places[j], f"({time}{j})")
    if variant.whole:
        setup = [f"{name}_now = {name}" for name in moving]
        loop = segment
    else:
        setup = [f"{name}_now = {name} + {name}_last" for name in moving]
        segment += [f"{name}_now -= {name}_jump" for name in moving]
        # the next tile must not be noted over what a slower thread still reads
        loop = ["for back in range(segments):", *indent(segment), "tl.debug_barrier()"]
    if variant.static:
        setup += _load_x(writer, "x_0", "x")
    if variant.static and "x" in variant.gradients:
        setup.append(f"gx_sum = tl.zeros({writer.shape}, {writer.real})")
        loop = [*loop, "tl.store(gx + at, gx_sum, mask=keep)"]
    return [*setup, *loop]


def _recompute(
    writer: Writer, prefix: str, x: str, before: list[str], after: list[str], suffix: str
) -> list[str]:
    """The forward step without its output. The same operations as in the forward kernel, or the
    adjoint would belong to other spikes."""
    step = writer.step
    inputs = (
        {"x": x} | dict(zip(step.states, before, strict=True)) | pieces.coef_inputs(writer, suffix)
    )
    graph = writer.trace.forward.select(step.states)
    lines, results = writer.lines(graph, inputs, prefix, exact=True)
    return [
        *lines,
        *(
            f"next_{var} = {writer.spread(results[name])}"
            for name, var in zip(step.states, writer.states, strict=True)
        ),
        *(f"{to} = next_{var}" for to, var in zip(after, writer.states, strict=True)),
    ]


def _adjoint(writer: Writer, j: int, states: list[str], time: str) -> list[str]:
    """One step back in time: gradients of x, of the states (in place), and of the coefs."""
    step, variant, leaves = writer.step, writer.variant, writer.leaves
    keep = f"keep_{j}" if variant.ragged else "keep"
    x = "x_0" if variant.static else f"x_{j}"
    inputs = {"x": x, "grad:spikes": f"g_{j}"} | pieces.coef_inputs(writer, f"_{j}")
    for name, value, var in zip(step.states, states, writer.states, strict=True):
        inputs |= {name: value, f"grad:{name}": f"g_{var}"}
    wants_x = "x" in variant.gradients
    gradients = [*(["grad:x"] if wants_x else []), *(f"grad:{n}" for n in (*step.states, *leaves))]
    graph = writer.trace.adjoint.select(gradients)
    lines, results = writer.lines(graph, inputs, f"a{j}_", exact=False)
    if wants_x and variant.static:
        added = writer.spread(results["grad:x"])
        lines.append("gx_sum += " + (f"tl.where({keep}, {added}, 0)" if variant.ragged else added))
    elif wants_x:
        lines.append(
            f"tl.store(gx_at{j} + at, {writer.stored(results['grad:x'], 'gx')}, mask={keep})"
        )
    for name in leaves:
        lines += _collect(writer, name, results[f"grad:{name}"], keep, time)
    for name, var in zip(step.states, writer.states, strict=True):
        new = writer.spread(results[f"grad:{name}"])
        lines.append(
            f"next_{var} = " + (f"tl.where({keep}, {new}, g_{var})" if variant.ragged else new)
        )
    lines += [f"g_{var} = next_{var}" for var in writer.states]
    return lines


def _collect(writer: Writer, name: str, gradient: str, keep: str, time: str) -> list[str]:
    """What one time step adds to the gradient of a coef; neurons that do not exist add nothing."""
    variant = writer.variant
    added = f"tl.where({keep}, {writer.spread(gradient)}, 0)"
    if name not in writer.step.time_coefs:
        return [f"sum_{writer.coef(name)} += {added}"]
    step = f" * T + {_step_place(variant, time)}"
    place, total, mask = _total(writer, name, added, step)
    return [
        f"part_at = {place}",
        f"tl.store(part_at, tl.load(part_at{mask}) + {total}{mask})",
        *(["tl.debug_barrier()"] if variant.ragged or variant.nest == "vec" else []),
    ]


def _add_up(writer: Writer) -> list[str]:
    """The sums of the gradients of coefs that are the same at all time steps."""
    lines = []
    for name in writer.leaves:
        if name not in writer.step.time_coefs:
            place, total, mask = _total(writer, name, f"sum_{writer.coef(name)}")
            lines.append(f"tl.store({place}, {total}{mask})")
    return lines


def _total(writer: Writer, name: str, values: str, step: str = "") -> tuple[str, str, str]:
    """Where the sums for a coef lie, those of one time step if it changes over time; the sum of a
    tile's `values`; and the mask of both."""
    part = f"part_{writer.coef(name)}"
    if writer.variant.nest == "row":
        return f"{part} + tile{step}", f"tl.sum({values}, 0)", ""
    if name in writer.variant.vectors:
        share = f"(share{step})" if step else "share"
        return f"{part} + {share} * inner + column", f"tl.sum({values}, 0)", ", mask=inside"
    return f"{part} + program{step}", f"tl.sum(tl.sum({values}, 1), 0)", ""


def _over_tiles(writer: Writer, clear: list[str], tile: list[str], add_up: list[str]) -> list[str]:
    """The tiles of a program; in the vec nest they have the same columns, and are summed
    together."""
    variant = writer.variant
    if variant.nest == "row":
        return [
            "for tile in range(program, tiles, programs):",
            *indent(loops.row_tile("tile", variant.flat, variant.quads, variant.index)),
            *indent([*pieces.constant_loads(writer), *clear, *tile, *add_up]),
        ]
    return [
        "share = program // column_tiles",
        *loops.vec_columns("(program % column_tiles)"),
        *pieces.constant_loads(writer),
        *clear,
        "for block in range(share, row_blocks, shares):",
        *indent(loops.vec_rows("block", variant.index)),
        *indent(tile),
        *add_up,
    ]


def _load_x(writer: Writer, name: str, pointer: str) -> list[str]:
    if writer.variant.static:
        pointer = "x"
    return [f"{name} = tl.load({pointer} + at, mask=keep, other=0).to({writer.real})"]


def _noted(variant: Variant, count: int) -> str:
    """The size of `count` states of a tile in the scratch of a program."""
    return f"{count} * " + ("BLOCK" if variant.nest == "row" else "ROWS * COLS")


def _step_place(variant: Variant, time: str) -> str:
    """Where the values of a time step lie; a step beyond the end has no place of its own, and what
    it reads and adds does not count."""
    return f"tl.minimum({time}, T - 1)" if variant.ragged else time
