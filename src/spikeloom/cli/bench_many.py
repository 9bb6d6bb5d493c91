"""`spikeloom bench input` and `bench scaling`: what many GPUs ask of the input and each other."""

from pathlib import Path
from typing import Annotated

import typer

from spikeloom.cli.output import complete_recipe, print_table

Csv = Annotated[Path | None, typer.Option("--csv", help="Also write the rows to this file.")]


def input_(
    images: Annotated[int, typer.Option(min=2, help="Images to make and read.")] = 400,
    batch: Annotated[int, typer.Option(min=1, help="Images in a batch.")] = 50,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode.")] = 1,
    size: Annotated[int, typer.Option(min=8, help="Side they are cut to.")] = 224,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each; the fastest counts.")] = 3,
    csv: Csv = None,
) -> None:
    """Images a second: made-up photographs from folders, from tar shards, and from memory."""
    import torch

    from spikeloom.bench import input as bench
    from spikeloom.bench.timing import write_csv

    torch.set_num_threads(1)
    rows = bench.measure(images, batch, workers, size, rounds)
    columns = ["part", "source", "workers", "images_per_second", "ms_per_image"]
    print_table(
        columns,
        [[str(row[column]) for column in columns] for row in rows],
        right=["workers", "images_per_second", "ms_per_image"],
    )
    if csv is not None:
        write_csv(csv, rows)


def scaling(
    recipe: Annotated[
        str, typer.Argument(help="Recipe to predict.", autocompletion=complete_recipe)
    ] = "glif/imagenet-resnet18ms",
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    processes: Annotated[
        list[int] | None, typer.Option(min=1, help="How many, repeatable.")
    ] = None,
    measured: Annotated[
        str, typer.Option(help="Small recipe to measure on one and two processes here.")
    ] = "glif/digits",
    steps: Annotated[int, typer.Option(min=1, help="Steps of a measurement.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each; the fastest counts.")] = 3,
    csv: Csv = None,
) -> None:
    """Steps of one and of two processes, measured; of many GPUs, predicted by a model."""
    from spikeloom.bench import scaling as bench
    from spikeloom.bench.input import pixels_per_second
    from spikeloom.bench.timing import write_csv
    from spikeloom.data.images import ImageSource
    from spikeloom.data.registry import source
    from spikeloom.data.spec import DataSpec
    from spikeloom.errors import ConfigError
    from spikeloom.methods.catalog import load_recipe

    resolved = load_recipe(recipe, overrides or ())
    if not isinstance(source(resolved.data.name), ImageSource):
        raise ConfigError(
            f"{recipe} trains on {resolved.data.name}: the model is of photographs, decoded "
            "when they are read; give a recipe for imagenet or imagefolder"
        )
    side = resolved.data.images.size
    data = DataSpec("imagenet", (3, side, side), tuple(str(i) for i in range(1000)))
    work = bench.count(resolved, data)
    decode = pixels_per_second(side)
    typer.echo(
        f"{recipe}: {work.multiplies / 1e9:.2f} GMAC a sample, {work.neuron_values / 1e6:.1f} M "
        f"values through neurons, {work.norm_values / 1e6:.1f} M through {work.norms} norms, "
        f"{work.parameters:,} parameters; a core decodes {decode:.0f} images/s"
    )
    rows = bench.table(resolved, work, bench.assumed_node(decode), tuple(processes or (1, 8, 64)))
    rows = [*bench.measure(measured, (), steps, rounds), *rows]
    columns = [one for one in dict.fromkeys(key for row in rows for key in row) if one != "recipe"]
    print_table(
        columns,
        [[str(row.get(column, "")) for column in columns] for row in rows],
        right=columns[1:-1],
    )
    if csv is not None:
        write_csv(csv, rows)
