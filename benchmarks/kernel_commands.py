"""The commands about compiled kernels by themselves: do they agree, what do they need of a GPU."""

from typing import TYPE_CHECKING

import typer

from benchmarks.command import Backend, Csv, Device, Small, app, prepare, table
from spikeloom.errors import ConfigError

if TYPE_CHECKING:
    from benchmarks.runner import Row


@app.command("agreement")
def agreement(
    device: Device = "auto",
    backend: Backend = "auto",
    small: Small = False,
    csv: Csv = None,
) -> None:
    """Compiled kernels against float64 on the CPU, as `spikeloom doctor --kernels`, with a CSV."""
    from benchmarks.timing import write_csv
    from spikeloom.cli.doctor import print_agreement

    where = prepare(1, device)
    rows: list[Row] = []
    for row in print_agreement(where, backend, small):
        rows.append(row)
        if csv is not None:
            write_csv(csv, rows, where)
    if any(row["note"] for row in rows):
        raise typer.Exit(1)


@app.command("registers")
def registers(csv: Csv = None) -> None:
    """What the GPU kernels need of a GPU (registers, spills), by its own compiler; without one."""
    from spikeloom.compiler.dispatch import interpreting

    if interpreting():
        raise ConfigError("kernels are interpreted, not compiled: unset TRITON_INTERPRET")
    try:
        from benchmarks import registers as bench

        rows = bench.measure()
    except ImportError as error:
        raise ConfigError(f"{error}: install triton (pip install triton) to compile") from error
    columns = {
        "subject": "neuron",
        "case": "",
        "kernel": "kernel",
        "capability": "sm",
        "neurons": "tile",
        "warps": "warps",
        "registers": "registers",
        "spilled_bytes": "spilled",
    }
    table(rows, columns, csv)
