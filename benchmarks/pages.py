"""Figures in the pages, from `benchmarks/results`: `python -m benchmarks.pages [--check]`.

What stands between `<!-- figures: NAME -->` and `<!-- end of figures -->` is written by the
function of that name from the CSV files; no such figure is typed by hand. `--check` writes nothing
and fails where a page and the files differ.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.layer_tables import (
    COPIES,
    compiled,
    linear,
    machine,
    neurons,
    neurons_read,
    plain_script,
    small,
)
from benchmarks.tables import LIBRARIES, cell, groups, read, table

ROOT = Path(__file__).parents[1]
PAGES = (
    ROOT / "docs" / "performance.md",
    ROOT / "docs" / "scaling.md",
    ROOT / "docs" / "sparse.md",
    ROOT / "docs" / "compat.md",
    ROOT / "docs" / "inference.md",
    ROOT / "README.md",
)


def training() -> str:
    rows = []
    plain = {
        group["relu"]["subject"]: group
        for group in groups(read("training-plain-cpu.csv"))
        if "relu" in group
    }
    for group in groups(read("training-cpu.csv")):
        if "relu" in group:
            case = group["relu"]
            names = ("spikeloom", "eager", "spikingjelly")
            cells = [cell(group, name, "times_relu", 2) for name in names]
            other = plain.get(case["subject"], {})
            cells += [cell(other, name, "times_relu", 2) for name in names[:2]]
            floor = cell(group, "relu", "step_ms", 0 if float(case["step_ms"]) > 100 else 1)
            rows.append([f"`{case['subject']}`", case["T"], case["batch"], floor, *cells])
    head = ["recipe", "T", "batch", "ReLU, ms", "spikeloom", "eager", "SpikingJelly neurons"]
    return table([*head, "plain script: spikeloom", "eager"], rows)


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
            rows.append([f"{words}, {shape}", *(cell(group, name, COPIES) for name in names)])
    steps = {
        row["contender"]: row
        for row in read("synapses-steps-cpu.csv")
        if (row["recipe"], row["threads"]) == ("plif/mnist", "1")
    }
    sparse, dense = (float(steps[f"spiking, {how}"]["times_relu"]) for how in ("sparse", "dense"))
    torchs = float(steps["spiking, sparse, input gradients by torch"]["times_relu"])
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
        + "what fired and its input gradients take fewer products ([how](docs/sparse.md); without "
        + f"the second {torchs:.2f}, with neither {dense:.2f}), and {ann:.2f} times that of "
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


def recurrent() -> str:
    """Recurrent layers in one kernel."""
    rows = [
        [row[name] for name in ("what", "T", "batch", "contender", "forward_ms", "both_ms")]
        for row in read("recurrent-cpu.csv")
    ]
    one = read("recurrent-cpu.csv")[0]
    return (
        table(["network", "T", "batch", "run as", "forward, ms", "with backward, ms"], rows)
        + f"\n\nOne thread; {one['cpu']}, load {one['load']}."
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
        recurrent,
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
