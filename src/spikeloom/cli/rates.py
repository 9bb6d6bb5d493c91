"""`spikeloom rates`: the firing rates of `spikeloom eval`, and nothing else."""

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
    root: Annotated[Path | None, typer.Option(help="Where the data are on this machine.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how often the neurons of a trained run fire on the test samples of its data set.

    A rate is spikes per neuron and time step; the total is over all neurons, not over layers.
    """
    from spikeloom import training

    found = training.evaluate(folder, checkpoint, timesteps=T, device=device, root=root)
    if as_json:
        print_json(
            {
                "checkpoint": checkpoint,
                "epochs": found.epochs,
                "samples": found.samples,
                "loss": found.loss,
                "accuracy": found.accuracy,
                "firing_rates": found.firing_rates,
                "spikes_per_sample": found.spikes,
                "total": found.rate,
            }
        )
        return
    about = f"{folder}: checkpoint {checkpoint} after {found.epochs} epochs"
    steps = f", T = {T}" if T else ""
    typer.echo(f"{about}, {found.samples:,} test samples{steps}")
    typer.echo(f"accuracy {found.accuracy:.2%}   loss {found.loss:.5f}\n")
    total = ("all neurons", found.rate, sum(found.spikes.values()))
    rows = [(layer, rate, found.spikes[layer]) for layer, rate in found.firing_rates.items()]
    columns = ("neuron layer", "firing rate", "spikes per sample")
    print_table(
        columns, [(n, f"{r:.4f}", f"{s:,.1f}") for n, r, s in [*rows, total]], right=columns[1:]
    )
