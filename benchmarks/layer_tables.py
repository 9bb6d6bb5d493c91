"""The tables of neuron layers by themselves, for `benchmarks.pages`."""

import math
from collections.abc import Sequence

from benchmarks.tables import LIBRARIES, Group, cell, groups, number, ratios, read, span, table

COPIES = "training_copies"
"""The column of forward and backward together, in copies of the input."""


def machine() -> str:
    """Where the tables were measured."""
    files = ("neurons-cpu.csv", "linear-cpu.csv", "training-cpu.csv", "startup-cpu.csv")
    rows = [row for name in files for row in read(name)]
    one, loads = rows[0], [float(row["load"]) for row in rows]
    peers = {row["contender"]: row["version"] for row in rows if row.get("version")}
    versions = ", ".join(f"{LIBRARIES[name]} {peers[name]}" for name in list(LIBRARIES)[:4])
    return (
        f"{one['threads']} thread of {one['cpu']}, {one['cores']} cores, on which other work ran "
        f"(load {span(loads)}); Python {one['python']}, PyTorch {one['torch']}, "
        f"numba {one['numba']}; {versions}."
    )


def layers() -> list[Group]:
    """The cases of `benchmarks neurons` but the small layer, whose unit means nothing."""
    return [group for group in groups(read("neurons-cpu.csv")) if not is_small(group)]


def is_small(group: Group) -> bool:
    return group["spikeloom"]["shape"] == "4x8x64"


def small() -> str:
    """What a call costs, from the layer that has next to nothing to do."""
    (group,) = filter(is_small, groups(read("neurons-cpu.csv")))
    shape = [int(axis) for axis in group["spikeloom"]["shape"].split("x")]
    values = math.prod(shape)
    calls = []
    for name in ("spikeloom", "eager", *LIBRARIES):
        if each := number(group, name, "training_ns_per_element"):
            calls.append(f"{LIBRARIES.get(name, name)} {each * values / 1000:.0f}")
    return (
        f"A call, forward and backward, on {values:,} values (PLIF, `{shape}`), in microseconds: "
        f"{', '.join(calls)}."
    )


def neurons() -> str:
    found = layers()
    peers = [name for name in LIBRARIES if any(number(g, name, COPIES) for g in found)]
    rows = []
    for group in found:
        case = group["spikeloom"]
        rows.append(
            [
                *(case[key] for key in ("subject", "shape")),
                ", ".join(
                    value
                    for value in (case["dtype"], case["layout"].replace("_", " "))
                    if value not in ("float32", "contiguous")
                ),
                cell(group, "spikeloom", "forward_copies"),
                f"**{cell(group, 'spikeloom', COPIES)}**",
                f"{float(case['training_share']):.0%}",
                *(cell(group, name, COPIES) for name in ("eager", *peers)),
            ]
        )
    head = ["neuron", "`[T, B, ...]`", "", "forward", "with backward", "share of copy", "eager"]
    return table([*head, *(LIBRARIES[name] for name in peers)], rows)


def usual(found: Sequence[Group]) -> list[Group]:
    """Cases in float32 that lie in memory as usual."""
    values = {"dtype": "float32", "layout": "contiguous"}
    return [group for group in found if values.items() <= group["spikeloom"].items()]


def neurons_read() -> str:
    found = usual(layers())

    def of(name: str) -> str:
        costs = [number(g, "spikeloom", COPIES) for g in found]
        kinds = [g["spikeloom"]["subject"] for g in found]
        return span([c for c, kind in zip(costs, kinds, strict=True) if c and kind == name])

    others = [
        f"{LIBRARIES.get(name, 'eager PyTorch')} {span(found_ratios)}"
        for name in ("eager", *LIBRARIES)
        if (found_ratios := ratios(found, name, COPIES))
    ]
    return (
        f"Forward and backward, a LIF layer costs {of('LIF')} copies, PLIF {of('PLIF')}, GLIF with "
        f"eight learned constants a channel {of('GLIF')}, AdLIF with four states {of('AdLIF')}. "
        f"The others take so many times as long: {', '.join(others)}."
    )


def plain_script() -> str:
    """A script that sets nothing, where freed memory is not kept."""
    rows = [
        [group["spikeloom"][key] for key in ("subject", "shape")]
        + [cell(group, "spikeloom", key) for key in ("forward_copies", COPIES)]
        + [cell(group, "eager", COPIES)]
        for group in usual(groups(read("neurons-plain-cpu.csv")))
        if group["spikeloom"]["subject"] in ("LIF", "PLIF")
    ]
    return table(["neuron", "`[T, B, ...]`", "forward", "with backward", "eager"], rows)


def compiled() -> str:
    names = ("spikeloom", "torch.compile", "eager")
    rows = [
        [group["spikeloom"]["shape"], *(cell(group, name, COPIES) for name in names)]
        for group in usual(groups(read("neurons-compile-cpu.csv")))
        if not is_small(group)
    ]
    return table(["PLIF `[T, B, ...]`", *names], rows)


def linear() -> str:
    rows = []
    names = ("spikeloom", "eager", *LIBRARIES)
    for group in groups(read("linear-cpu.csv")):
        steps, _, size = group["spikeloom"]["shape"].split("x")
        cells = []
        for name in names:
            alone = cell(group, name, "neurons_ms")
            cells.append(cell(group, name, "training_ms") + (f" ({alone})" if alone else ""))
        rows.append([size, steps, cell(group, "linear only", "training_ms"), *cells])
    head = ["N", "T", "linear only", "spikeloom", "eager", *LIBRARIES.values()]
    return table(head, rows)
