"""`spikeloom calibrate`: from a trained ANN to the thresholds of a spiking network."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spikeloom.cli import options
from spikeloom.cli.output import print_json, print_table
from spikeloom.errors import ConfigError, RunError

if TYPE_CHECKING:
    from spikeloom.evaluation.evaluation import TrainedRun


def calibrate(
    folder: Annotated[Path, typer.Argument(help="Run folder of the trained ANN.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Fields of the recipe of --check to change."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write; default: <run folder>/thresholds.safetensors."),
    ] = None,
    percentile: Annotated[
        float,
        typer.Option(help="Percent of a layer's activations at or below its threshold; 100: all."),
    ] = 99.9,
    batches: Annotated[int, typer.Option(min=1, help="Batches to measure.")] = 5,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Samples in a batch; default: the recipe's.")
    ] = None,
    split: Annotated[
        Literal["train", "test"], typer.Option(help="Samples to measure (published: test).")
    ] = "train",
    order: Annotated[
        Literal["random", "file"],
        typer.Option(help="Drawn with the seed, or the first ones (published: file)."),
    ] = "random",
    seed: Annotated[
        int | None, typer.Option(help="Of the random order; default: the recipe's.")
    ] = None,
    checkpoint: Annotated[
        Literal["best", "last", "previous"], typer.Option(help="Which weights (published: last).")
    ] = "best",
    check: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="Also test the spiking network that this recipe would begin to train with.",
            autocompletion=options.complete_recipe,
        ),
    ] = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Measure the activations of a trained ANN and write them as thresholds of a spiking network.

    The recipe that follows starts from both: spikeloom train RECIPE ann=RUN thresholds=FILE.
    """
    if overrides and check is None:
        raise ConfigError(f"{overrides[0]}: overrides belong to the recipe of --check: name one")
    out = out or folder / "thresholds.safetensors"

    from spikeloom.methods.catalog import load_recipe

    files = [f"network.ann={folder}", f"network.thresholds={out}"]
    recipe = None if check is None else load_recipe(check, [*files, *(overrides or ())])

    from spikeloom.evaluation.evaluation import accuracy_at_start, load_run
    from spikeloom.run.folder import start_facts

    run = load_run(folder, checkpoint, device=device)
    size = batch_size or run.recipe.data.batch_size
    about = {"checkpoint": f"{checkpoint}, after {run.epochs} epochs", **start_facts()}
    fraction = percentile / 100
    values = calibrate_run(run, out, fraction, batches, size, split, order, seed, about)
    samples, accuracy = batches * size, run.measure(run.classifier, "float32").accuracy
    before = [] if recipe is None else accuracy_at_start(recipe, run)
    after_steps = dict(enumerate(before, start=1))
    if as_json:
        print_json(
            {
                "file": str(out),
                "samples": samples,
                "percentile": percentile,
                "activations": values,
                "accuracy": accuracy,
                "accuracy_before_training": after_steps,
            }
        )
        return
    typer.echo(f"{out}: {percentile:g} % of the activations of {samples:,} {split} samples")
    print_table(
        ("layer", "activation"),
        [(layer, f"{value:.5g}") for layer, value in values.items()],
    )
    typer.echo(f"accuracy of the ANN {accuracy:.2%}\n")
    if after_steps:
        print_table(
            ("time steps", "accuracy before training"),
            [(str(steps), f"{accuracy:.2%}") for steps, accuracy in after_steps.items()],
        )


def calibrate_run(
    run: "TrainedRun",
    out: Path,
    fraction: float = 0.999,
    batches: int = 5,
    batch_size: int = 64,
    split: Literal["train", "test"] = "train",
    order: Literal["random", "file"] = "random",
    seed: int | None = None,
    about: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """The activations of `run` on some of its samples, by layer, and in the file `out`.

    `order`: samples are drawn with `seed` (the recipe's by default), or the first of the split, as
    the published program takes them of the test split. `about`: more to say in the file.

    Raises:
        ConfigError: the network is no ANN, or the numbers do not fit.
        RunError: `out` cannot be written.
    """
    import torch

    from spikeloom.data.base import subset
    from spikeloom.data.loader import Loader
    from spikeloom.methods.dsr import thresholds
    from spikeloom.run.device import autocast, surroundings
    from spikeloom.seeding import generator

    recipe, tested = run.recipe, run.test_loader()
    source, count = run.data.train if split == "train" else run.data.test, batches * batch_size
    if not 1 <= count <= len(source):
        raise ConfigError(
            f"{batches} batches of {batch_size} are {count} samples, and the {split} split of "
            f"{run.data.spec.name} has {len(source)}: give 1 to {len(source)}"
        )
    draws = generator(recipe.seed if seed is None else seed, "calibrate")
    chosen = torch.randperm(len(source), generator=draws)[:count]
    loader = Loader(
        subset(source, chosen if order == "random" else torch.arange(count)),
        batch_size,
        transform=tested.transform,
        device=run.device,
        workers=recipe.data.workers,
    )
    wall, cpu = time.monotonic(), time.process_time()
    with surroundings(recipe.training, run.device), autocast("float32", run.device):
        inputs = (batch.inputs for batch in loader.epoch(0))
        values = thresholds.calibrate(run.classifier, inputs, count, fraction)
    facts = {
        "recipe": recipe.title,
        "data": recipe.data.name,
        "samples": f"{count}, {split} split, in {order} order",
        "fraction": repr(fraction),
        "seconds": f"{time.monotonic() - wall:.1f}",
        "cpu_seconds": f"{time.process_time() - cpu:.1f}",
    }
    try:
        thresholds.write_thresholds(out, values, facts | dict(about or {}))
    except OSError as error:
        raise RunError(f"cannot write {out}: {error.strerror}") from error
    return {name: float(value) for name, value in values.items()}
