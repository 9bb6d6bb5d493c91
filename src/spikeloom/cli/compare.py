"""`spikeloom compare`: one row of figures for each run, seeds of one recipe together."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spikeloom.cli import options
from spikeloom.cli.output import print_json, print_table

if TYPE_CHECKING:
    from spikeloom.run.reading import RunRecord


def compare(
    folders: Annotated[list[Path], typer.Argument(help="Run folders.")],
    csv: Annotated[Path | None, typer.Option(help="Also write the rows to this file.")] = None,
    as_json: options.Json = False,
) -> None:
    """Show accuracy, size, spikes, energy and time of several runs in one table."""
    from spikeloom.report.summary import summaries, write_csv

    runs, rows = summaries(folders)
    if as_json:
        print_json(rows)
    else:
        print_rows(runs, rows)
    if csv is not None:
        write_csv(csv, rows)


def print_rows(runs: "Sequence[RunRecord]", rows: Sequence[dict[str, Any]]) -> None:
    """The table, means over seeds below it, and why figures are missing."""
    from spikeloom.report.summary import grouped, paired_differences
    from spikeloom.report.words import count, energy, percent, score

    columns = (
        "run",
        "data",
        "accuracy",
        "95 %",
        "parameters",
        "T",
        "spikes",
        "energy",
        "ms/step",
        "latency",
    )
    print_table(
        columns,
        [
            (
                row["run"],
                row["data"],
                "r2 " * (row["figure"] == "r2")
                + f"{score(row['accuracy'], row['figure'])} {row['protocol']}",
                "" if row["low"] is None else f"{row['low']:.1%} to {row['high']:.1%}",
                count(row["parameters"]),
                str(row["T"] or ""),
                count(row["spikes_per_sample"]),
                "" if row["energy_nj"] is None else energy(1000 * row["energy_nj"]),
                "" if row["ms_per_step"] is None else f"{row['ms_per_step']:.1f}",
                "" if row["latency_ms"] is None else f"{row['latency_ms']:.2f} ms",
            )
            for row in rows
        ],
    )
    groups = grouped(runs, rows)
    several = [group for group in groups if len(group.rows) > 1]
    if several:
        print_table(
            ("seeds of", "seeds", "mean", "deviation"),
            [(g.name, str(len(g.rows)), *map(percent, g.spread)) for g in several],
        )
    for pair in paired_differences(groups):
        typer.echo(
            f"{pair['second']} against {pair['first']}, {pair['seeds']} seeds in pairs: "
            f"{100 * pair['mean']:+.2f} points, deviation {100 * (pair['deviation'] or 0):.2f}"
        )
    for row in rows:
        if row["note"]:
            typer.echo(f"{row['run']}: spikes and energy not measured: {row['note']}")
