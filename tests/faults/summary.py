"""Adds up what a campaign did: `python summary.py RECORD`, a file that FAULT_RECORD named."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any


def summary(records: list[dict[str, Any]]) -> list[str]:
    """A line for each recipe, and one for all, of the runs on one process and on two."""
    lines = []
    for program, unit in (("campaign.py", "runs"), ("elastic.py", "launches")):
        parts = [record for record in records if record["program"] == program]
        for name in dict.fromkeys(record["recipe"] for record in parts):
            lines.append(line(name, unit, [part for part in parts if part["recipe"] == name]))
        if parts:
            lines.append(line("in all", unit, parts))
        hit = Counter[str]()
        for part in parts:
            hit.update(part.get("by_phase", {}))
        if hit:
            lines.append(
                "hit: " + ", ".join(f"{name} {count}" for name, count in hit.most_common())
            )
    return lines


def line(name: str, unit: str, parts: list[dict[str, Any]]) -> str:
    count, kills, failed = (
        sum(part[unit] for part in parts),
        sum(part["kills"] for part in parts),
        sum(len(part["failures"]) for part in parts),
    )
    end = f"{failed} ENDED DIFFERENTLY" if failed else "all bit for bit"
    cpu, wall = (sum(part[key] for part in parts) for key in ("cpu_seconds", "seconds"))
    lost = max(part.get("most_steps_lost", 0) for part in parts)
    steps = f", at most {lost} steps lost" if lost else ""
    seeds = ", ".join(dict.fromkeys(str(part["seed"]) for part in parts))
    return (
        f"{name}: {count} {unit}, {kills} kills, {end}{steps}; "
        f"{cpu:.0f} s of CPU, {wall:.0f} s; seed {seeds}"
    )


def main() -> None:
    text = Path(sys.argv[1]).read_text()
    print("\n".join(summary([json.loads(record) for record in text.splitlines()])))


if __name__ == "__main__":
    main()
