"""`spikeloom rates`: firing rates of a trained run, layer by layer and over all neurons."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from spikeloom.cli.output import print_json, print_table


def rates(
    folder: Annotated[Path, typer.Argument(help="Run folder that `spikeloom train` made.")],
    checkpoint: Annotated[
        Literal["best", "last", "previous"], typer.Option(help="Which weights.")
    ] = "best",
    T: Annotated[
        int | None, typer.Option("--T", help="Time steps to run instead of the recipe's T.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how often the neurons of a trained run fire on the test samples of its data set.

    A rate is spikes per neuron and time step; the total is over all neurons, not over layers.
    """
    from spikeloom.analysis.rates import FiringRates, SpikeCount
    from spikeloom.evaluation.evaluation import load_run, measure
    from spikeloom.run.device import surroundings

    run = load_run(folder, checkpoint, timesteps=T, device=device)
    with surroundings(run.recipe.training, run.device), FiringRates(run.classifier) as counter:
        measurement = measure(
            run.classifier,
            run.test_loader(),
            classes=run.data.spec.class_count,
            device=run.device,
            precision=run.recipe.training.precision,
        )
    samples = int(measurement.confusion.sum())
    counts = counter.counts()
    steps = T or getattr(run.recipe.network, "T", None)
    total = SpikeCount(
        sum(c.spikes for c in counts.values()), sum(c.places for c in counts.values())
    )
    if as_json:
        print_json(
            {
                "checkpoint": checkpoint,
                "epochs": run.epochs,
                "samples": samples,
                "time_steps": steps,
                "loss": measurement.loss,
                "accuracy": measurement.accuracy,
                "firing_rates": {layer: count.rate for layer, count in counts.items()},
                "spikes": {layer: count.spikes for layer, count in counts.items()},
                "total": total.rate,
            }
        )
        return
    typer.echo(
        f"{folder}: checkpoint {checkpoint} after {run.epochs} epochs, {samples:,} test samples"
        + (f", T = {steps}" if steps else "")
    )
    typer.echo(f"accuracy {measurement.accuracy:.2%}   loss {measurement.loss:.5f}\n")
    print_table(
        ("neuron layer", "firing rate", "spikes per sample"),
        [
            (layer, f"{count.rate:.4f}", f"{count.spikes / max(samples, 1):,.1f}")
            for layer, count in [*counts.items(), ("all neurons", total)]
        ],
        right=("firing rate", "spikes per sample"),
    )
