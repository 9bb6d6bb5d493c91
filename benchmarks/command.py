"""What the commands of `python -m benchmarks` share: their options, and their tables."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikeloom.cli.output import print_table

if TYPE_CHECKING:
    from benchmarks.cases import Case
    from benchmarks.runner import Row, Trial

app = typer.Typer(
    name="benchmarks", help="Measure speed as ratios in one process.", no_args_is_help=True
)

Threads = Annotated[int, typer.Option(min=1, help="Threads of this process.")]
Rounds = Annotated[int, typer.Option(min=1, help="Runs of each contender; the fastest counts.")]
Csv = Annotated[Path | None, typer.Option("--csv", help="Also write the rows to this file.")]
AddedCsv = Annotated[
    Path | None,
    typer.Option("--csv", help="Also add the rows to this file, in place of those of a case."),
]
Device = Annotated[str, typer.Option(help="auto (CUDA where there is one), cpu, cuda, cuda:1 ...")]
Backend = Annotated[str, typer.Option(help="Of this library's neurons: auto, cpu, gpu.")]
Small = Annotated[
    bool, typer.Option("--small", help="Every case on a tiny shape: does it run, does it agree.")
]
Compile = Annotated[
    bool, typer.Option("--torch-compile", help="Also torch.compile (a minute a shape).")
]
Plain = Annotated[
    bool,
    typer.Option(
        "--plain",
        help="As a script that sets nothing: freed memory is not kept, as training keeps it.",
    ),
]
Neurons = Annotated[
    list[str] | None, typer.Argument(help="Names of neurons; all if none is given.")
]


def prepare(threads: int, device: str) -> str:
    """Sets the threads; the device's name."""
    import torch

    from spikeloom.run.device import choose_device

    torch.set_num_threads(threads)
    return str(choose_device(device))


def run(
    cases: "Iterable[Case]",
    trial: "Callable[[Case], Trial]",
    rounds: int,
    figures: dict[str, str],
    csv: Path | None,
) -> None:
    """Measures, prints and writes case by case; a table may come from several calls. Exit code 1 if
    this library did not agree with the reference somewhere.
    """
    from benchmarks.runner import measure
    from benchmarks.timing import add_to_csv

    rows: list[Row] = []
    for case in cases:
        found = measure(trial(case), rounds)
        rows += found
        if csv is not None:  # a run that is cut short leaves what it has
            add_to_csv(csv, found, (*case.columns(), "matmul", "memory", "threads"), case.device)
        first = found[0]
        print_rows(
            found,
            figures,
            f"{first['subject']}  [{first['shape']}]  {first['dtype']}  "
            f"{first['layout']}  {first['device']}",
        )
    ours = [row for row in rows if row["contender"] == "spikeloom"]
    wrong = [row for row in ours if str(row["note"]).startswith(("not timed", "absent"))]
    for row in wrong:
        what = f"{row['subject']} {row['shape']}"
        typer.echo(f"spikeloom has no figure: {what}: {row['note']}", err=True)
    if wrong:
        raise typer.Exit(1)


def print_rows(rows: "Sequence[Row]", figures: dict[str, str], title: str | None = None) -> None:
    """The rows as a table, without columns that none of them has; and who is absent in a line
    below it.
    """
    here = [row for row in rows if not str(row["note"]).startswith("absent")]
    figures = {key: name for key, name in figures.items() if any(key in row for row in here)}
    print_table(
        ["contender", *figures.values(), ""],
        [
            [
                str(row["contender"]),
                *(str(row.get(key, "")) for key in figures),
                str(row["note"]),
            ]
            for row in here
        ],
        title=title,
    )
    absent: dict[str, list[str]] = {}
    for row in rows:
        if row not in here:
            absent.setdefault(str(row["note"]), []).append(str(row["contender"]))
    for note, names in absent.items():
        typer.echo(f"{note}: {', '.join(names)}\n")


def table(
    rows: "Sequence[Row]", columns: Sequence[str] | Mapping[str, str], csv: Path | None
) -> None:
    """The `columns` of all rows, under other names where they are given; numbers to the right."""
    from benchmarks.timing import write_csv

    names = columns if isinstance(columns, Mapping) else {column: column for column in columns}
    print_table(
        list(names.values()),
        [[str(row.get(column, "")) for column in names] for row in rows],
    )
    if csv is not None:
        write_csv(csv, rows)
