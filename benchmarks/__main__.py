"""`python -m benchmarks FAMILY`: how fast, against floors and peers measured in the same process.

Run from the root of a checkout.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks import kernel_commands as kernel_commands
from benchmarks import record_commands as record_commands
from benchmarks.command import (
    AddedCsv,
    Backend,
    Compile,
    Csv,
    Device,
    Neurons,
    Plain,
    Rounds,
    Small,
    Threads,
    app,
    prepare,
    print_rows,
    run,
    table,
)
from spikeloom.cli.options import complete_recipe
from spikeloom.cli.output import print_table
from spikeloom.errors import ConfigError, SpikeloomError

if TYPE_CHECKING:
    from benchmarks.cases import Case


@app.command("export")
def export(runs: Annotated[list[Path], typer.Argument(help="Run folders.")]) -> None:
    """Exported networks against the runs they are of: equal spikes, size and time of C."""
    from benchmarks import export as bench

    typer.echo(f"{bench.check_compiler()}, {' '.join(bench.FLAGS)}")
    print_table(bench.COLUMNS, bench.table(runs))


@app.command("delays")
def delays(threads: Threads = 1, rounds: Rounds = 9) -> None:
    """Learned delays: the kernel against torch's convolution over time, forward and backward."""
    import torch

    from benchmarks import delays as bench

    torch.set_num_threads(threads)
    print_table(bench.COLUMNS, bench.table(rounds))


@app.command("neurons")
def neurons(
    neuron: Neurons = None,
    threads: Threads = 1,
    rounds: Rounds = 9,
    device: Device = "auto",
    backend: Backend = "auto",
    small: Small = False,
    compile_eager: Compile = False,
    plain: Plain = False,
    csv: AddedCsv = None,
) -> None:
    """Neuron layers in copies of their input, against eager, torch.compile and installed peers."""
    from benchmarks import cases
    from benchmarks import neurons as bench
    from spikeloom.suggest import did_you_mean

    unknown = [name for name in neuron or () if name not in cases.NEURONS]
    if unknown:
        hint = did_you_mean(unknown[0], cases.NEURONS)
        raise ConfigError(f"no neuron {unknown[0]!r} to measure{hint}")
    where = prepare(threads, device)
    wanted = [case for case in cases.neuron_cases(where) if not neuron or case.subject in neuron]
    run(
        cases.small(wanted) if small else wanted,
        lambda case: bench.trial(case, compile_eager, backend, plain),
        rounds,
        {
            "forward_copies": "forward",
            "training_copies": "forward + backward",
            "training_share": "share of copy",
            "training_ns_per_element": "ns/element",
        },
        csv,
    )


@app.command("linear")
def linear(
    threads: Threads = 1,
    rounds: Rounds = 9,
    device: Device = "auto",
    backend: Backend = "auto",
    small: Small = False,
    compile_eager: Compile = False,
    csv: AddedCsv = None,
) -> None:
    """A linear layer and LIF, N x T: the published benchmark with its faults corrected."""
    from benchmarks import cases
    from benchmarks import linear as bench

    where = prepare(threads, device)
    wanted = list(cases.linear_cases(where))
    run(
        cases.small(wanted) if small else wanted,
        lambda case: bench.trial(case, compile_eager, backend),
        rounds,
        {
            "matmul": "matmul",
            "forward_ms": "forward ms",
            "training_ms": "forward + backward ms",
            "neurons_ms": "neurons alone ms",
            "times_linear": "times linear",
        },
        csv,
    )


@app.command("training")
def training(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="Recipe name or file; the registered ones if none is given.",
            autocompletion=complete_recipe,
        ),
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Samples; the usual if left out.")
    ] = None,
    threads: Threads = 1,
    rounds: Rounds = 5,
    device: Device = "auto",
    backend: Backend = "auto",
    plain: Plain = False,
    csv: AddedCsv = None,
) -> None:
    """Time of a training step, against the same network with ReLU in place of the neurons; where a
    ReLU cannot stand in, its parts, and solvers against one another.
    """
    from benchmarks import cases
    from benchmarks import training as bench
    from spikeloom.methods.catalog import load_recipe

    where = prepare(threads, device)
    size = () if batch is None else (batch,)
    found: Iterable[Case]
    if recipe is None:
        found = (
            case if batch is None else case.with_shape(size) for case in cases.training_cases(where)
        )
    else:
        precision = load_recipe(recipe, overrides or ()).training.precision
        found = [cases.Case("training", recipe, size, precision, device=where)]
    run(
        found,
        lambda case: bench.trial(case, overrides or (), backend, plain),
        rounds,
        {
            "step_ms": "step ms",
            "step_median_ms": "median ms",
            "times_relu": "times ReLU",
            "simulation_ms": "simulation ms",
            "backward_ms": "backward ms",
            "published_step_ms": "published step ms",
            "iterations": "iterations",
            "residual": "residual",
        },
        csv,
    )


@app.command("synapses")
def synapses(
    recipe: Annotated[
        str | None,
        typer.Argument(help="A recipe whose training step is measured; the map if left out."),
    ] = None,
    threads: Threads = 1,
    rounds: Rounds = 3,
    batch: Annotated[int, typer.Option(min=1, help="Samples of a step.")] = 16,
    trained: Annotated[int, typer.Option(min=0, help="Steps before the measured one.")] = 200,
    kept: Annotated[
        Path | None, typer.Option(help="Keep the trained weights here, or begin with them.")
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option(help="Of the map: float32, bfloat16, float64.")
    ] = None,
    layer: Annotated[
        list[int] | None, typer.Option(min=0, help="Of the map: some layers, by number.")
    ] = None,
    density: Annotated[
        list[float] | None, typer.Option(min=0, max=1, help="Of the map: some, of inputs.")
    ] = None,
    csv: AddedCsv = None,
) -> None:
    """Layers that work on what fired against dense ones, over density and shape; or a training
    step beside its ReLU twin and the ANN without time. Rows are added to those of the file, in
    place of older ones of the same case.
    """
    from benchmarks import synapses as bench
    from benchmarks.timing import add_to_csv

    found = (
        bench.measure_map(
            threads, rounds, dtype or list(bench.DTYPES), layer or (), density or bench.DENSITIES
        )
        if recipe is None
        else bench.measure_steps(recipe, threads, rounds, batch, trained, kept)
    )
    case = ("layer", "shape", "dtype", "density", "recipe", "contender", "threads")
    for row in found:
        typer.echo("  ".join(str(value) for value in row.values()))
        if csv is not None:
            add_to_csv(csv, [row], case)


@app.command("calls")
def calls(
    recipe: Annotated[
        str, typer.Argument(help="A recipe.", autocompletion=complete_recipe)
    ] = "plif/digits",
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    csv: Csv = None,
) -> None:
    """Python calls of one training step on a CPU, and microseconds of layers so small that calls
    are all they cost."""
    from benchmarks import calls as bench

    rows = bench.measure(recipe, overrides or ())
    table(rows, ["what", "library", "all", "us", "by folder"], csv)


@app.command("startup")
def startup(
    rounds: Annotated[int, typer.Option(min=1, help="Processes of each kind.")] = 3,
    backend: Backend = "auto",
    device: Device = "auto",
    compile_eager: Compile = False,
    csv: Csv = None,
) -> None:
    """Import, `--help`, and the first call of a neuron with an empty and a filled kernel cache,
    each in processes of its own.
    """
    from benchmarks import startup as bench
    from benchmarks.timing import write_csv

    where = prepare(1, device)
    rows = bench.measure(rounds, where, backend, compile_eager)
    print_rows(rows, {"what": "what", "seconds": "seconds", "median_seconds": "median"})
    if csv is not None:
        write_csv(csv, rows, where)


@app.command("events")
def events(threads: Threads = 1, rounds: Rounds = 15, csv: Csv = None) -> None:
    """Events to frames, and reading prepared frames, against tonic where it is installed."""
    import torch

    from benchmarks import events as bench

    torch.set_num_threads(threads)
    table(bench.measure(rounds), ["what", "ms", "tonic_ms", "ratio", "note"], csv)


@app.command("inference")
def inference(
    steps: Annotated[int, typer.Option(min=0, help="Training steps before it is measured.")] = 200,
    threads: Threads = 1,
    rounds: Rounds = 15,
    kept: Annotated[
        Path | None, typer.Option(help="Keep the trained weights here, or begin with them.")
    ] = None,
    csv: Csv = None,
) -> None:
    """A trained spiking network that only answers, against the real ANN; a streaming step against
    the dense one. Needs MNIST.
    """
    import torch

    from benchmarks import inference as bench

    torch.set_num_threads(threads)
    columns = ["what", "batch", "contender", "ms", "of_ann", "of_dense", "note"]
    table(bench.measure(steps, rounds, kept), columns, csv)


@app.command("recurrent")
def recurrent(threads: Threads = 1, rounds: Rounds = 9, csv: Csv = None) -> None:
    """Layers that hear their own spikes, in one kernel and as a loop over time."""
    import torch

    from benchmarks import recurrent as bench

    torch.set_num_threads(threads)
    columns = ["what", "T", "batch", "contender", "forward_ms", "both_ms", "times_loop"]
    table(bench.measure(rounds), columns, csv)


@app.command("memory")
def memory(csv: Csv = None) -> None:
    """Bytes that a layer of neurons keeps for its backward pass, and the peak of a training step
    that is differentiated at its equilibrium.
    """
    import torch

    from benchmarks import memory as bench

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
    table(rows, columns, csv)


@app.command("input")
def input_rates(
    images: Annotated[int, typer.Option(min=2, help="Images to make and read.")] = 400,
    batch: Annotated[int, typer.Option(min=1, help="Images in a batch.")] = 50,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode.")] = 1,
    size: Annotated[int, typer.Option(min=8, help="Side they are cut to.")] = 224,
    rounds: Rounds = 3,
    csv: Csv = None,
) -> None:
    """Images a second: made-up photographs from folders, from tar shards, and from memory."""
    import torch

    from benchmarks import input as bench

    torch.set_num_threads(1)
    table(
        bench.measure(images, batch, workers, size, rounds),
        ["part", "source", "workers", "images_per_second", "ms_per_image"],
        csv,
    )


@app.command("scaling")
def scaling(
    recipe: Annotated[
        str, typer.Argument(help="A small recipe.", autocompletion=complete_recipe)
    ] = "glif/digits",
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of a measurement.")] = 20,
    rounds: Rounds = 3,
    csv: Csv = None,
) -> None:
    """Steps a second on one process, on two apart, and on two that train together."""
    from benchmarks import scaling as bench

    rows = bench.measure(recipe, overrides or (), steps, rounds)
    table(rows, list(dict.fromkeys(key for row in rows for key in row if key != "recipe")), csv)


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit code 0: measured; 1: this library disagreed with the reference; 2: a mistake in what
    was asked for.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded
    try:
        app(args=None if arguments is None else list(arguments))
    except SpikeloomError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
