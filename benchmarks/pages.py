"""Figures in the pages, from `benchmarks/results`: `python -m benchmarks.pages [--check]`.

What stands between `<!-- figures: NAME -->` and `<!-- end of figures -->` is written by the
function of that name from the CSV files; no such figure is typed by hand. `--check` writes nothing
and fails where a page and the files differ.
"""

import csv
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (
    ROOT / "docs" / "performance.md",
    ROOT / "docs" / "scaling.md",
    ROOT / "docs" / "sparse.md",
    ROOT / "docs" / "compat.md",
    ROOT / "docs" / "inference.md",
    ROOT / "README.md",
)

LIBRARIES = {
    "spikingjelly": "SpikingJelly",
    "snntorch": "snnTorch",
    "norse": "Norse",
    "sinabs": "sinabs",
    "torch.compile": "torch.compile",
}

Row = dict[str, str]
Group = dict[str, Row]
"""The rows of a case by contender."""


def read(name: str) -> list[Row]:
    with (RESULTS / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def groups(rows: Sequence[Row]) -> list[Group]:
    """Rows case by case, in the order of the file."""
    found: dict[tuple[str, ...], Group] = {}
    for row in rows:
        case = (row["subject"], row["shape"], row["dtype"], row["layout"])
        found.setdefault(case, {})[row["contender"]] = row
    return list(found.values())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def span(values: Sequence[float], digits: int = 1) -> str:
    """ "a to b", or one number if they are the same."""
    low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def cell(group: Group, contender: str, key: str, digits: int = 1) -> str:
    """A contender's figure; empty if it has none, a star if it agrees with a variant only."""
    row = group.get(contender, {})
    if row.get("note", "").startswith("not timed"):
        return "differs"
    if not row.get(key):
        return ""
    return f"{float(row[key]):.{digits}f}" + ("*" if row["note"] else "")


def number(group: Group, contender: str, key: str) -> float | None:
    """A contender's figure where it computes the same function, or None."""
    row = group.get(contender, {})
    return float(row[key]) if row.get(key) and not row["note"] else None


def ratios(found: Sequence[Group], contender: str, key: str) -> list[float]:
    """How many times as long as ours a contender takes, case by case."""
    pairs = [(number(group, contender, key), number(group, "spikeloom", key)) for group in found]
    return [theirs / ours for theirs, ours in pairs if theirs and ours]


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
    """The cases of `bench neurons` but the last, whose layer is small: its unit means nothing."""
    return groups(read("neurons-cpu.csv"))[:-1]


def small() -> str:
    """What a call costs, from the layer that has next to nothing to do."""
    group = groups(read("neurons-cpu.csv"))[-1]
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
    peers = [name for name in LIBRARIES if any(number(g, name, _COPIES) for g in found)]
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
                f"**{cell(group, 'spikeloom', _COPIES)}**",
                f"{float(case['training_share']):.0%}",
                *(cell(group, name, _COPIES) for name in ("eager", *peers)),
            ]
        )
    head = ["neuron", "`[T, B, ...]`", "", "forward", "with backward", "share of copy", "eager"]
    return table([*head, *(LIBRARIES[name] for name in peers)], rows)


_COPIES = "training_copies"


def plain(found: Sequence[Group]) -> list[Group]:
    """Cases in float32 that lie in memory as usual."""
    usual = {"dtype": "float32", "layout": "contiguous"}
    return [group for group in found if usual.items() <= group["spikeloom"].items()]


def neurons_read() -> str:
    found = plain(layers())

    def of(name: str) -> str:
        costs = [number(g, "spikeloom", _COPIES) for g in found]
        kinds = [g["spikeloom"]["subject"] for g in found]
        return span([c for c, kind in zip(costs, kinds, strict=True) if c and kind == name])

    others = [
        f"{LIBRARIES.get(name, 'eager PyTorch')} {span(found_ratios)}"
        for name in ("eager", *LIBRARIES)
        if (found_ratios := ratios(found, name, _COPIES))
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
        + [cell(group, "spikeloom", key) for key in ("forward_copies", _COPIES)]
        + [cell(group, "eager", _COPIES)]
        for group in plain(groups(read("neurons-plain-cpu.csv")))
        if group["spikeloom"]["subject"] in ("LIF", "PLIF")
    ]
    return table(["neuron", "`[T, B, ...]`", "forward", "with backward", "eager"], rows)


def compiled() -> str:
    names = ("spikeloom", "torch.compile", "eager")
    rows = [
        [group["spikeloom"]["shape"], *(cell(group, name, _COPIES) for name in names)]
        for group in plain(groups(read("neurons-compile-cpu.csv"))[:-1])
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


def training() -> str:
    rows = []
    for group in groups(read("training-cpu.csv")):
        if "relu" in group:
            case = group["relu"]
            names = ("spikeloom", "eager", "spikingjelly")
            cells = [cell(group, name, "times_relu", 2) for name in names]
            floor = cell(group, "relu", "step_ms", 0 if float(case["step_ms"]) > 100 else 1)
            rows.append([f"`{case['subject']}`", case["T"], case["batch"], floor, *cells])
    head = ["recipe", "T", "batch", "ReLU, ms", "spikeloom", "eager", "SpikingJelly neurons"]
    return table(head, rows)


def equilibrium() -> str:
    rows = []
    for group in groups(read("training-cpu.csv")):
        for name, row in group.items():
            if row.get("simulation_ms"):
                parts = ("step_ms", "simulation_ms", "backward_ms")
                cells = [f"{float(row[key]):.0f}" for key in parts]
                published = row["published_step_ms"] if name == "spikeloom" else ""
                case = (f"`{row['subject']}`", row["T"], row["batch"])
                rows.append([*case, name, row["solver"], *cells, row["iterations"], published])
    head = ["recipe", "T", "batch", "", "solver", "step, ms", "simulation", "backward"]
    return table([*head, "iterations", "published step"], rows)


def calls() -> str:
    rows = [[row["what"], row["library"], row["all"], row["us"]] for row in read("calls-cpu.csv")]
    return table(["", "calls in the library", "and in torch and Python", "microseconds"], rows)


def startup() -> str:
    rows = [
        [
            row["what"],
            row["contender"] if "call" in row["what"] else "",
            row["seconds"],
            row["median_seconds"],
        ]
        for row in read("startup-cpu.csv")
    ]
    return table(["what", "", "seconds", "median"], rows)


def memory() -> str:
    kept: dict[str, dict[tuple[str, str], str]] = {}
    for row in read("memory-cpu.csv"):
        if row.get("bytes_per_neuron"):
            value = f"{float(row['bytes_per_neuron']):.0f}"
            kept.setdefault(row["what"], {})[row["library"], row["T"]] = value
    libraries = [
        "eager",
        *(name for name in LIBRARIES if any((name, "20") in found for found in kept.values())),
    ]
    rows = [
        [
            name,
            *(f"**{found['spikeloom', T]}**" for T in ("5", "10", "20")),
            *(found.get((library, "20"), "") for library in libraries),
        ]
        for name, found in kept.items()
    ]
    names = [f"{LIBRARIES.get(library, library)}, T=20" for library in libraries]
    return table(["neuron", "T=5", "T=10", "T=20", *names], rows)


def peak() -> str:
    rows = [row for row in read("memory-cpu.csv") if row.get("peak_megabytes")]
    return table(
        ["T", *(row["T"] for row in rows)], [["MB", *(row["peak_megabytes"] for row in rows)]]
    )


def registers() -> str:
    """Registers of a thread of the GPU kernels, forward / backward, and all that they spill."""
    found: dict[str, dict[tuple[str, str], list[str]]] = {}
    spilled = 0
    for row in read("gpu-registers.csv"):
        case = (row["case"], row["capability"])
        found.setdefault(row["subject"], {}).setdefault(case, []).append(row["registers"])
        spilled += int(row["spilled_bytes"])
    cases = list(dict.fromkeys(case for rows in found.values() for case in rows))
    head = ["neuron", *(f"{case}, sm_{capability}" for case, capability in cases)]
    rows = [[name, *(" / ".join(rows[case]) for case in cases)] for name, rows in found.items()]
    return f"{table(head, rows)}\n\nSpilled by all of them together: {spilled} bytes."


def speed() -> str:
    """The short table of the README."""
    wanted = {
        ("PLIF", "8x16x128x14x14"): "PLIF",
        ("PLIF", "100x64x256"): "PLIF",
        ("GLIF", "8x16x128x14x14"): "GLIF, 8 learned constants a channel",
        ("AdLIF", "8x16x128x14x14"): "AdLIF, 4 states",
    }
    rows = []
    for group in groups(read("neurons-cpu.csv")):
        case = group["spikeloom"]
        words = wanted.get((case["subject"], case["shape"]))
        if words and case["dtype"] == "float32" and case["layout"] == "contiguous":
            shape = f"`[{case['shape'].replace('x', ', ')}]`"
            names = ("spikeloom", "eager", "spikingjelly")
            rows.append([f"{words}, {shape}", *(cell(group, name, _COPIES) for name in names)])
    steps = {
        row["contender"]: row
        for row in read("synapses-steps-cpu.csv")
        if (row["recipe"], row["threads"]) == ("plif/mnist", "1")
    }
    sparse, dense = (float(steps[f"spiking, {how}"]["times_relu"]) for how in ("sparse", "dense"))
    ann = float(steps["spiking, sparse"]["times_ann"])
    answers = {
        row["batch"]: row["of_ann"]
        for row in read("inference-cpu.csv")
        if row["contender"] == "inference" and row["what"] == "plif/mnist"
    }
    return (
        table(["layer", "spikeloom", "eager PyTorch", "SpikingJelly 2.0"], rows)
        + f"\n\nA training step of the PLIF network for MNIST (T = 8, batch 16) takes {sparse:.2f} "
        + "times that of the same network with ReLU on all time steps, because its layers work on "
        + f"what fired ([how](docs/sparse.md); dense: {dense:.2f}), and {ann:.2f} times that of "
        + "the ANN that needs no time at all. Made for [inference](docs/inference.md), its "
        + f"T = 8 steps take {answers['64']} passes of that ANN at batch 64 and {answers['1']} at "
        + "batch 1.\n\n![Training step and answers of a spiking network beside its ReLU twin and "
        + "the ANN](docs/images/synapses-step.svg)"
    )


def inference() -> str:
    """Answers of a trained network, and a streaming step."""
    rows = [
        [*(row[name] for name in ("what", "batch", "contender", "ms", "of_ann", "of_dense"))]
        for row in read("inference-cpu.csv")
    ]
    one = read("inference-cpu.csv")[0]
    return (
        table(["what", "batch", "network", "ms", "times ANN", "times dense"], rows)
        + f"\n\nOne thread; {one['cpu']}, load {one['load']}."
    )


def processes() -> str:
    rows = read("scaling-cpu.csv")
    head = [
        f"`{rows[0]['recipe']}`, batch 32 a process",
        "own time, ms",
        "steps/s of it",
        "wall, ms",
    ]
    cells = []
    for row in rows:
        own = row["cpu_ms"] or row["step_ms"]  # the prediction is of idle cores
        wall = row["step_ms"] if row["cpu_ms"] else ""
        cells.append(
            [row["what"].removeprefix("measured: "), own, f"{1000 / float(own):.1f}", wall]
        )
    one, together = rows[0], rows[2]
    return (
        f"{table(head, cells)}\n\nThe all-reduce of the gradients takes "
        f"{together['reduce_ms']} ms. One thread a process, {one['cpu']}, {one['cores']} cores, on "
        f"which other work ran (load {one['load']}): on the wall's clock the fastest tenth of the "
        f"steps counts. PyTorch {one['torch']}, gloo."
    )


def input_rates() -> str:
    rows = read("input-cpu.csv")
    parts = list(dict.fromkeys(row["part"] for row in rows))
    sources = list(dict.fromkeys(row["source"] for row in rows))
    rate = {(row["part"], row["source"]): float(row["images_per_second"]) for row in rows}

    def shown(part: str, source: str) -> str:
        if (part, source) == ("bytes", "synthetic"):
            return ""  # they are in memory
        return f"{rate[part, source]:,.0f}"

    cells = [[part, *(shown(part, source) for source in sources)] for part in parts]
    one = rows[-1]
    return (
        f"{table(['images a second', *sources], cells)}\n\n{one['workers']} worker process, "
        f"batches of {one['batch']}, {one['size']} x {one['size']} pixels; {one['cpu']}, "
        f"{one['cores']} cores, on which other work ran (load {one['load']})."
    )


def synapses_map() -> str:
    """Layer by layer, density by density."""
    rows = []
    for row in read("synapses-cpu.csv"):
        pairs = [
            f"{float(row[f'dense_{part}_ms']):.1f} / {float(row[f'sparse_{part}_ms']):.1f}"
            for part in ("forward", "weight")
        ]
        gain = float(row["with_gradients_gain"])
        rows.append(
            [
                *(row["layer"], row["shape"], row["dtype"], row["threads"]),
                *(f"{float(row['density']):.0%}", *pairs, f"{float(row['dense_input_ms']):.1f}"),
                *(row["forward_gain"], f"**{gain:.2f}**" if gain < 1 else f"{gain:.2f}"),
                row["chosen_training"],
            ]
        )
    head = ["layer", "shape", "dtype", "threads", "active", "forward dense / sparse"]
    one = read("synapses-cpu.csv")[0]
    return (
        table([*head, "weight gradient", "input gradient", "gain forward", "gain", "taken"], rows)
        + f"\n\n{one['cpu']}, {one['cores']} cores."
    )


def synapses_steps() -> str:
    """The training step, every contender in one process."""
    rows = []
    for row in read("synapses-steps-cpu.csv"):
        case = [f"`{row['recipe']}`", row["batch"], row["after_steps"], row["threads"]]
        case += [row["contender"], row["step_ms"]]
        rows.append([*case, f"{float(row['times_relu']):.2f}", row["times_ann"][:4]])
    one = read("synapses-steps-cpu.csv")[0]
    return (
        table(
            [
                *("recipe", "batch", "after steps", "threads", "network"),
                *("step, ms", "times ReLU", "times ANN"),
            ],
            rows,
        )
        + f"\n\n{one['cpu']}."
    )


def compat() -> str:
    """Model files of published repositories: docs/compat.md."""
    found = read("compat-models-cpu.csv")
    rows = [
        [
            f"[{row['repository'].partition('/')[2]}](https://github.com/{row['repository']})",
            f"`{row['file']}`",
            row["spikingjelly"],
            f"{int(row['neurons']):,}",
            "yes" if row["different spikes"] == "0" else f"no: {row['different spikes']} differ",
            row["gradient error"],
            f"{float(row['their ms']):.0f}",
            f"{float(row['our ms']):.0f}",
            f"{float(row['speed']):.2f}x",
        ]
        for row in found
    ]
    repositories = len({row["repository"] for row in found})
    head = ["repository", "file", "version", "outputs", "equal spikes", "gradient error"]
    head += ["theirs, ms", "ours, ms", "speed"]
    return f"{len(found)} files of {repositories} repositories.\n\n" + table(head, rows)


BLOCKS: dict[str, Callable[[], str]] = {
    function.__name__: function
    for function in (
        machine,
        neurons,
        neurons_read,
        small,
        plain_script,
        compiled,
        linear,
        training,
        equilibrium,
        calls,
        startup,
        memory,
        peak,
        registers,
        speed,
        processes,
        input_rates,
        synapses_map,
        synapses_steps,
        compat,
        inference,
    )
}

_BLOCK = re.compile(r"<!-- figures: ([\w-]+) -->\n.*?<!-- end of figures -->", re.DOTALL)


def filled(text: str) -> str:
    """A page with each of its blocks written anew."""
    # empty lines: a table beside a comment is a part of it for some readers of Markdown
    return _BLOCK.sub(
        lambda found: (
            f"<!-- figures: {found[1]} -->\n\n{BLOCKS[found[1]]()}\n\n<!-- end of figures -->"
        ),
        text,
    )


def main(check: bool) -> int:
    stale = []
    for page in PAGES:
        text = page.read_text("utf-8")
        new = filled(text)
        if new != text:
            stale.append(page.name)
            if not check:
                page.write_text(new, "utf-8")
    if stale:
        print(f"{', '.join(stale)}: {'differ from the files' if check else 'written'}")
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
