"""`spikeloom calibrate`: from a trained ANN to the thresholds of a spiking network."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from spikeloom.cli import options
from spikeloom.cli.output import print_json, print_table
from spikeloom.errors import ConfigError


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

    from spikeloom.evaluation.evaluation import load_run
    from spikeloom.training import calibration

    result = calibration.calibrate(
        folder,
        out,
        fraction=percentile / 100,
        batches=batches,
        batch_size=batch_size,
        split=split,
        order=order,
        seed=seed,
        checkpoint=checkpoint,
        device=device,
    )
    before: list[float] = []
    if recipe is not None:
        run = load_run(folder, checkpoint, device=device)
        before = calibration.accuracy_at_start(recipe, run)
    after_steps = dict(enumerate(before, start=1))
    if as_json:
        print_json(
            {
                "file": str(out),
                "samples": result.samples,
                "percentile": percentile,
                "activations": result.values,
                "accuracy": result.accuracy,
                "accuracy_before_training": after_steps,
            }
        )
        return
    typer.echo(f"{out}: {percentile:g} % of the activations of {result.samples:,} {split} samples")
    print_table(
        ("layer", "activation"),
        [(layer, f"{value:.5g}") for layer, value in result.values.items()],
        right=("activation",),
    )
    typer.echo(f"accuracy of the ANN {result.accuracy:.2%}\n")
    if after_steps:
        print_table(
            ("time steps", "accuracy before training"),
            [(str(steps), f"{accuracy:.2%}") for steps, accuracy in after_steps.items()],
            right=("time steps", "accuracy before training"),
        )
