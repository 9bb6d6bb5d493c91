"""Tables of `scaling.md` from `benchmarks/results`: `python docs/scaling_figures.py [--check]`.

What stands between `<!-- table: NAME -->` and `<!-- end -->` is written by the function of that
name; no figure is typed by hand. `--check` writes nothing and fails where the page and the files
differ.
"""

import csv
import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scaling.md"


def read(name: str) -> list[dict[str, str]]:
    """The rows of a file that `spikeloom bench ... --csv` wrote."""
    with (ROOT / "benchmarks" / "results" / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def measured() -> str:
    rows = [row for row in read("scaling-cpu.csv") if not row["compute_ms"]]
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


def predicted() -> str:
    rows = [row for row in read("scaling-cpu.csv") if row["compute_ms"]]
    keys = {
        "processes": "GPUs",
        "batch": "batch",
        "compute_ms": "compute, ms",
        "reduce_ms": "all-reduce",
        "exposed_ms": "not hidden",
        "sync_ms": "small ones",
        "input_ms": "input",
        "step_ms": "step, ms",
        "images_per_second": "images/s",
        "efficiency": "efficiency",
    }
    cells = [[row[key] for key in keys] for row in rows]
    last = float(rows[-1]["images_per_second"])
    hours = 150 * 1_281_167 / last / 3600
    return (
        f"{table(list(keys.values()), cells)}\n\n150 epochs of 1,281,167 images at the last rate: "
        f"{hours:.1f} hours, evaluation not counted."
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


TABLES = {"measured": measured, "predicted": predicted, "input": input_rates}

_BLOCK = re.compile(r"<!-- table: (\w+) -->\n.*?<!-- end -->", re.DOTALL)


def filled(text: str) -> str:
    """The page with each of its tables written anew."""
    return _BLOCK.sub(
        lambda found: f"<!-- table: {found[1]} -->\n\n{TABLES[found[1]]()}\n\n<!-- end -->", text
    )


def main(check: bool) -> int:
    text = PAGE.read_text("utf-8")
    if (new := filled(text)) == text:
        return 0
    if not check:
        PAGE.write_text(new, "utf-8")
    return int(check)


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
