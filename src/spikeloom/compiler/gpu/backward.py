"""The backward kernel: a traced step's adjoint for tiles of neurons, from the last time step to the
first.

Nothing but the input was saved. The kernel goes over the time steps in segments of K: it walks
forward once, writing down the states at the start of each segment; then back, segment by segment,
recomputing the states inside one in registers. With one segment (`whole`) nothing is written down;
with K = 1 nothing is recomputed.
"""

from dataclasses import dataclass

from spikeloom.compiler.emit import indent
from spikeloom.compiler.front.trace import Trace
from spikeloom.compiler.gpu import loops, pieces
from spikeloom.compiler.gpu.writer import Writer


@dataclass(frozen=True)
class BackwardVariant(pieces.Variant):
    """`gradients`: the inputs whose gradients are written (`x`, coefs). `grad_finals`: gradients
    come from the last states. `grad_starts`: those of the initial states are written. `K`: time
    steps of a segment. `whole`: there is one segment. `ragged`: the last segment is shorter.
    """

    gradients: frozenset[str] = frozenset()
    grad_finals: bool = False
    grad_starts: bool = False
    K: int = 1
    whole: bool = False
    ragged: bool = False


def backward_source(trace: Trace, variant: BackwardVariant) -> str:
    """The module whose `run_backward` writes all gradients of the tiles that fall to a program.

    There are as many programs as the device runs at once, so that what they write down stays in
    its cache.
    """
    writer = Writer(trace, loops.unit(variant.nest))
    states = writer.states
    shape = loops.shape(variant.nest)
    leaves = [name for name in trace.signature.coefs if name in variant.gradients]
    tile = [
        *pieces.start_lines(writer, variant, shape),
        *([] if variant.whole else _write_down(writer, variant, shape)),
        *(
            f"g_{var} = tl.load({var}grad_final + at, mask=keep, other=0)"
            if variant.grad_finals
            else f"g_{var} = tl.zeros({shape}, {writer.real})"
            for var in states
        ),
        *_walk_back(writer, variant, shape, leaves),
        *(
            f"tl.store({var}grad_start + at, g_{var}, mask=keep)"
            for var in states
            if variant.grad_starts
        ),
    ]
    clear = [
        f"sum_{writer.coef(name)} = tl.zeros({shape}, {writer.real})"
        for name in leaves
        if name not in variant.timed
    ]
    notes = "notes = scratch + tl.cast(program, tl.int64) * program_notes"
    body = [
        loops.lanes(variant.nest),
        "program = tl.program_id(0)",
        *([] if variant.whole else [notes]),
        *_over_tiles(writer, variant, clear, tile, _add_up(writer, variant, leaves)),
    ]
    by_step = _writes_gx_by_step(variant)
    moving = ["g", *([] if variant.static else ["x"]), *(["gx"] if by_step else [])]
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
        *pieces.coef_parameters(writer, variant),
        *(f"part_{writer.coef(name)}" for name in leaves),
        *loops.constants(variant.nest),
    ]
    return writer.module("Backward", "run_backward", arguments, body)


def _write_down(writer: Writer, variant: BackwardVariant, shape: str) -> list[str]:
    """Forward through time, leaving in `note` the states at the start of the last segment."""
    states = writer.states
    walk: list[str] = []
    for j in range(variant.K):
        walk += [
            *pieces.timed_loads(writer, variant, f"(q * {variant.K} + {j})", f"_{j}"),
            *_load_x(writer, variant, "x_t", "x_now"),
            *_recompute(writer, shape, f"w{j}_", "x_t", states, states, f"_{j}"),
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


def _walk_back(
    writer: Writer, variant: BackwardVariant, shape: str, leaves: list[str]
) -> list[str]:
    """From the last segment to the first: states again, then the adjoint of each step."""
    states, steps = writer.states, range(variant.K)
    # what is walked through, each with its way from step to step
    moving = {"x": "x_time", "g": "g_time", "gx": "n"}
    if variant.static:
        del moving["x"]
    if not _writes_gx_by_step(variant):
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
        segment += pieces.timed_loads(
            writer, variant, _step_place(variant, f"({time}{j})"), f"_{j}"
        )
    before = list(states)
    places = [before]
    for j in steps[:-1]:
        after = [f"{var}at{j + 1}" for var in states]
        x_j = "x_0" if variant.static else f"x_{j}"
        segment += _recompute(writer, shape, f"r{j}_", x_j, before, after, f"_{j}")
        places.append(after)
        before = after
    for j in reversed(steps):
        segment += _adjoint(writer, variant, shape, leaves, j, places[j], f"({time}{j})")
    if variant.whole:
        setup = [f"{name}_now = {name}" for name in moving]
        loop = segment
    else:
        setup = [f"{name}_now = {name} + {name}_last" for name in moving]
        segment += [f"{name}_now -= {name}_jump" for name in moving]
        # the next tile must not be noted over what a slower thread still reads
        loop = ["for back in range(segments):", *indent(segment), "tl.debug_barrier()"]
    if variant.static:
        setup += _load_x(writer, variant, "x_0", "x")
    if variant.static and "x" in variant.gradients:
        setup.append(f"gx_sum = tl.zeros({shape}, {writer.real})")
        loop = [*loop, "tl.store(gx + at, gx_sum, mask=keep)"]
    return [*setup, *loop]


def _recompute(
    writer: Writer,
    shape: str,
    prefix: str,
    x: str,
    before: list[str],
    after: list[str],
    suffix: str,
) -> list[str]:
    """The forward step without its output. The same operations as in the forward kernel, or the
    adjoint would belong to other spikes."""
    step = writer.trace.signature
    inputs = (
        {"x": x} | dict(zip(step.states, before, strict=True)) | pieces.coef_inputs(writer, suffix)
    )
    graph = writer.trace.forward.select(step.states)
    lines, results = writer.lines(graph, inputs, prefix, exact=True)
    return [
        *lines,
        *(
            f"next_{var} = {pieces.spread(results[name], shape)}"
            for name, var in zip(step.states, writer.states, strict=True)
        ),
        *(f"{to} = next_{var}" for to, var in zip(after, writer.states, strict=True)),
    ]


def _adjoint(
    writer: Writer,
    variant: BackwardVariant,
    shape: str,
    leaves: list[str],
    j: int,
    states: list[str],
    time: str,
) -> list[str]:
    """One step back in time: gradients of x, of the states (in place), and of the coefs
    `leaves`."""
    step = writer.trace.signature
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
        added = pieces.spread(results["grad:x"], shape)
        lines.append("gx_sum += " + (f"tl.where({keep}, {added}, 0)" if variant.ragged else added))
    elif wants_x:
        lines.append(
            f"tl.store(gx_at{j} + at, {pieces.stored(results['grad:x'], 'gx', shape)}, mask={keep})"
        )
    for name in leaves:
        lines += _collect(writer, variant, shape, name, results[f"grad:{name}"], keep, time)
    for name, var in zip(step.states, writer.states, strict=True):
        new = pieces.spread(results[f"grad:{name}"], shape)
        lines.append(
            f"next_{var} = " + (f"tl.where({keep}, {new}, g_{var})" if variant.ragged else new)
        )
    lines += [f"g_{var} = next_{var}" for var in writer.states]
    return lines


def _collect(
    writer: Writer,
    variant: BackwardVariant,
    shape: str,
    name: str,
    gradient: str,
    keep: str,
    time: str,
) -> list[str]:
    """What one time step adds to the gradient of a coef; neurons that do not exist add nothing."""
    var = writer.coef(name)
    added = f"tl.where({keep}, {pieces.spread(gradient, shape)}, 0)"
    if name not in variant.timed:
        return [f"sum_{var} += {added}"]
    time = _step_place(variant, time)
    if variant.nest == "row":
        place, mask = f"part_{var} + tile * T + {time}", ""
        total = f"tl.sum({added}, 0)"
    elif name in variant.vectors:
        place, mask = f"part_{var} + (share * T + {time}) * inner + column", ", mask=inside"
        total = f"tl.sum({added}, 0)"
    else:
        place, mask = f"part_{var} + program * T + {time}", ""
        total = f"tl.sum(tl.sum({added}, 1), 0)"
    return [
        f"part_at = {place}",
        f"tl.store(part_at, tl.load(part_at{mask}) + {total}{mask})",
        *(["tl.debug_barrier()"] if variant.ragged or variant.nest == "vec" else []),
    ]


def _add_up(writer: Writer, variant: BackwardVariant, leaves: list[str]) -> list[str]:
    """The sums of the gradients of coefs that are the same at all time steps."""
    lines = []
    for name in leaves:
        var = writer.coef(name)
        if name in variant.timed:
            continue
        if variant.nest == "row":
            lines.append(f"tl.store(part_{var} + tile, tl.sum(sum_{var}, 0))")
        elif name in variant.vectors:
            lines.append(
                f"tl.store(part_{var} + share * inner + column, tl.sum(sum_{var}, 0), mask=inside)"
            )
        else:
            lines.append(f"tl.store(part_{var} + program, tl.sum(tl.sum(sum_{var}, 1), 0))")
    return lines


def _over_tiles(
    writer: Writer,
    variant: BackwardVariant,
    clear: list[str],
    tile: list[str],
    add_up: list[str],
) -> list[str]:
    """The tiles of a program; in the vec nest they have the same columns, and are summed
    together."""
    if variant.nest == "row":
        return [
            "for tile in range(program, tiles, programs):",
            *indent(loops.row_tile("tile", variant.flat, variant.quads, variant.index)),
            *indent([*pieces.constant_loads(writer, variant), *clear, *tile, *add_up]),
        ]
    return [
        "share = program // column_tiles",
        *loops.vec_columns("(program % column_tiles)"),
        *pieces.constant_loads(writer, variant),
        *clear,
        "for block in range(share, row_blocks, shares):",
        *indent(loops.vec_rows("block", variant.index)),
        *indent(tile),
        *add_up,
    ]


def _writes_gx_by_step(variant: BackwardVariant) -> bool:
    return "x" in variant.gradients and not variant.static


def _load_x(writer: Writer, variant: pieces.Variant, name: str, pointer: str) -> list[str]:
    if variant.static:
        pointer = "x"
    return [f"{name} = tl.load({pointer} + at, mask=keep, other=0).to({writer.real})"]


def _noted(variant: BackwardVariant, count: int) -> str:
    """The size of `count` states of a tile in the scratch of a program."""
    return f"{count} * " + ("BLOCK" if variant.nest == "row" else "ROWS * COLS")


def _step_place(variant: BackwardVariant, time: str) -> str:
    """Where the values of a time step lie; a step beyond the end has no place of its own, and what
    it reads and adds does not count."""
    return f"tl.minimum({time}, T - 1)" if variant.ragged else time
