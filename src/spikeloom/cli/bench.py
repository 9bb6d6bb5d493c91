"""`spikeloom bench`: how fast, as ratios measured in one process."""

from pathlib import Path
from typing import Annotated

import typer

from spikeloom.cli.output import complete_recipe, print_table

app = typer.Typer(help="Measure speed as ratios in one process.", no_args_is_help=True)

Threads = Annotated[int, typer.Option(min=1, help="Threads of this process.")]
Rounds = Annotated[int, typer.Option(min=1, help="Runs of each contender; the fastest counts.")]
Csv = Annotated[Path | None, typer.Option("--csv", help="Also write the rows to this file.")]


@app.command("neurons")
def neurons(
    neuron: Annotated[
        list[str] | None, typer.Argument(help="Names of neurons; all if none is given.")
    ] = None,
    threads: Threads = 1,
    rounds: Rounds = 9,
    compile_eager: Annotated[
        bool, typer.Option("--torch-compile", help="Also torch.compile (a minute a shape).")
    ] = False,
    csv: Csv = None,
) -> None:
    """Neuron layers in copies of their input, against eager, torch.compile and installed peers."""
    import torch

    from spikeloom.bench import neurons as bench
    from spikeloom.bench.timing import write_csv
    from spikeloom.config.suggest import did_you_mean
    from spikeloom.errors import ConfigError

    unknown = [name for name in neuron or () if name not in bench.NEURONS]
    if unknown:
        hint = did_you_mean(unknown[0], bench.NEURONS)
        raise ConfigError(f"no neuron {unknown[0]!r} to measure{hint}")
    torch.set_num_threads(threads)
    cases = [case for case in bench.default_cases() if not neuron or case.neuron in neuron]
    rows = []
    for case in cases:
        found = bench.measure(case, rounds, compile_eager)
        rows += found
        print_table(
            ["contender", "forward", "forward + backward", "ns/element", ""],
            [
                [
                    str(row["contender"]),
                    *(str(row.get(key, "")) for key in _FIGURES),
                    str(row.get("note", "")),
                ]
                for row in found
            ],
            title=f"{case.neuron}  [{found[0]['shape']}]  {case.dtype}  {case.layout}",
            right=["forward", "forward + backward", "ns/element"],
        )
    if csv is not None:
        write_csv(csv, rows)


_FIGURES = ("forward_copies", "training_copies", "training_ns_per_element")


@app.command("training")
def training(
    recipe: Annotated[
        str, typer.Argument(help="Recipe name or file.", autocompletion=complete_recipe)
    ],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Samples; the recipe's if left out.")
    ] = None,
    threads: Threads = 1,
    rounds: Rounds = 5,
    csv: Csv = None,
) -> None:
    """Seconds of a training step, against the same network with ReLU in place of the neurons."""
    import torch

    from spikeloom.bench import training as bench
    from spikeloom.bench.timing import write_csv
    from spikeloom.methods.catalog import load_recipe

    torch.set_num_threads(threads)
    rows = bench.measure(load_recipe(recipe, overrides or ()), batch, rounds)
    print_table(
        ["contender", "seconds", "times ReLU"],
        [[str(row["contender"]), str(row["seconds"]), str(row["times_relu"])] for row in rows],
        title=f"{recipe}  T={rows[0]['T']}  batch {rows[0]['batch']}  {rows[0]['precision']}",
        right=["seconds", "times ReLU"],
    )
    if csv is not None:
        write_csv(csv, rows)


@app.command("events")
def events(threads: Threads = 1, rounds: Rounds = 15, csv: Csv = None) -> None:
    """Events to frames, and reading prepared frames, against tonic where it is installed."""
    import torch

    from spikeloom.bench import events as bench
    from spikeloom.bench.timing import write_csv

    torch.set_num_threads(threads)
    rows = bench.measure(rounds)
    columns = ["what", "ms", "tonic_ms", "ratio", "note"]
    print_table(
        columns,
        [[str(row.get(column, "")) for column in columns] for row in rows],
        right=["ms", "tonic_ms", "ratio"],
    )
    if csv is not None:
        write_csv(csv, rows)


@app.command("memory")
def memory(csv: Csv = None) -> None:
    """Bytes that a layer of neurons keeps for its backward pass, and the peak of a training step
    that is differentiated at its equilibrium.
    """
    import torch

    from spikeloom.bench import memory as bench
    from spikeloom.bench.timing import write_csv

    torch.set_num_threads(1)
    rows = bench.measure()
    columns = {
        "what": "neuron, or step",
        "library": "library",
        "T": "T",
        "bytes_per_neuron": "bytes per neuron",
        "peak_megabytes": "peak MB",
        "note": "",
    }
    print_table(
        list(columns.values()),
        [[str(row.get(key, "")) for key in columns] for row in rows],
        right=["T", "bytes per neuron", "peak MB"],
    )
    if csv is not None:
        write_csv(csv, rows)
