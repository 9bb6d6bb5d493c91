"""Rows of `benchmarks/results` as Markdown tables, case by case."""

import csv
from collections.abc import Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"

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
