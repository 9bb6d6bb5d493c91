"""One table from the CSV files and runs that `benchmarks/gpu.sh` leaves in a folder.

    python -m benchmarks.summary FOLDER

Each line is a question and its answer; a part that was not run has no line.
"""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

Row = dict[str, str]


def rows_of(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def summary(folder: Path) -> Iterator[tuple[str, str]]:
    """Question and answer of each line."""
    yield from _machine(folder)
    yield from _agreement(rows_of(folder / "agreement.csv"))
    for run in sorted(folder.glob("run-*")):
        yield from _run(run)
    yield from _neurons(rows_of(folder / "neurons.csv"))
    for what, answer in _neurons(rows_of(folder / "compiled.csv")):
        yield f"with torch.compile: {what}", answer
    yield from _training(rows_of(folder / "training.csv"))
    yield from _linear(rows_of(folder / "linear.csv"))
    for row in rows_of(folder / "startup.csv"):
        yield f"{row['contender']}: {row['what']}", f"{row['seconds']} s {row['note']}".strip()


def _machine(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.glob("*.csv")):
        for row in rows_of(path):
            parts = (row.get("gpu") or row["cpu"], f"torch {row['torch']}", row.get("triton"))
            names = [*parts[:2], f"triton {parts[2]}" if parts[2] else "no triton"]
            yield "machine", ", ".join(map(str, names))
            return


def _agreement(rows: list[Row]) -> Iterator[tuple[str, str]]:
    if not rows:
        return
    bad = [row for row in rows if row["note"]]
    whole = [row for row in rows if row["dtype"] == "float32"]
    worst = max(float(row.get("gradient_error") or 0) for row in whole)
    yield (
        "kernels that agree with float64 on the CPU",
        f"{len(rows) - len(bad)} of {len(rows)}; worst float32 gradient error {worst:.1e}",
    )
    for row in bad:
        case = f"{row['subject']} {row['shape']} {row['dtype']} {row['layout']}"
        yield f"  {case}", row["note"]


def _run(run: Path) -> Iterator[tuple[str, str]]:
    metrics = run / "metrics.jsonl"
    if not metrics.exists():
        return
    events = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
    epochs = [event for event in events if event["event"] == "epoch"]
    if not epochs:
        return
    best = max(epoch["test"]["accuracy"] for epoch in epochs)
    seconds = min(epoch["seconds"] for epoch in epochs)
    yield (
        f"trained {run.name.removeprefix('run-')}, {len(epochs)} epochs",
        f"best test accuracy {best:.2%}; {seconds:.1f} s an epoch",
    )


def _by_case(rows: list[Row]) -> dict[tuple[str, ...], dict[str, Row]]:
    found: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        case = (row["subject"], row["shape"], row["dtype"], row["layout"])
        found.setdefault(case, {})[row["contender"]] = row
    return found


def _others(found: dict[str, Row], key: str, ours: float) -> str:
    """How many times as long the others take; a star: it agrees with a variant (see the CSV)."""
    ratios = []
    for name, row in found.items():
        if name != "spikeloom" and row.get(key):
            star = "*" if row["note"] else ""
            ratios.append(f"{name}{star} {float(row[key]) / ours:.1f}x")
    return "; ".join(ratios)


def _neurons(rows: list[Row]) -> Iterator[tuple[str, str]]:
    for case, found in _by_case(rows).items():
        what = f"{case[0]} [{case[1]}] {case[2]}"
        ours = found.get("spikeloom", {})
        if not ours.get("training_copies"):
            yield what, ours.get("note", "no line of ours")
            continue
        shares = [f"{float(ours[key]):.0%}" for key in ("forward_share", "backward_share")]
        text = (
            f"{shares[0]} of copy bandwidth forward, {shares[1]} backward, "
            f"{ours['copy_gb_per_second']} GB/s a copy"
        )
        yield what, f"{text}; {_others(found, 'training_copies', float(ours['training_copies']))}"


def _training(rows: list[Row]) -> Iterator[tuple[str, str]]:
    for case, found in _by_case(rows).items():
        ours = found.get("spikeloom", {})
        what = f"step of {case[0]} [{case[1]}] {case[2]}"
        if not ours.get("step_ms"):
            yield what, ours.get("note", "no line of ours")
            continue
        others = _others(
            {name: row for name, row in found.items() if name != "relu"},
            "step_ms",
            float(ours["step_ms"]),
        )
        yield what, f"{ours['step_ms']} ms, {ours['times_relu']} times ReLU; {others}"


def _linear(rows: list[Row]) -> Iterator[tuple[str, str]]:
    for case, found in _by_case(rows).items():
        ours = found.get("spikeloom", {})
        what = f"linear + LIF [{case[1]}] {case[2]}"
        if not ours.get("training_ms"):
            yield what, ours.get("note", "no line of ours")
            continue
        others = {name: row for name, row in found.items() if name != "linear only"}
        text = f"{ours['training_ms']} ms, {ours['times_linear']} times the linear layer alone"
        yield what, f"{text}; {_others(others, 'training_ms', float(ours['training_ms']))}"


def main(folder: Path) -> None:
    lines = list(summary(folder))
    stages = folder / "stages.txt"
    if stages.exists():
        lines += [
            (name, text)
            for name, _, text in (
                line.partition(": ") for line in stages.read_text("utf-8").splitlines()
            )
        ]
    width = max((len(question) for question, _ in lines), default=0)
    for question, answer in lines:
        print(f"{question:<{width}}  {answer.rstrip('; ')}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
