"""`spikeloom rates`: the firing rates of `spikeloom eval`, and nothing else."""

from spikeloom.cli import options
from spikeloom.cli.evaluate import head, print_layers
from spikeloom.cli.output import print_json


def rates(
    folder: options.RunFolder,
    checkpoint: options.Checkpoint = "best",
    T: options.Steps = None,
    device: options.Device = "auto",
    root: options.Root = None,
    as_json: options.Json = False,
) -> None:
    """Show how often the neurons of a trained run fire on the test samples of its data set.

    A rate is spikes per neuron and time step; the total is over all neurons, not over layers.
    """
    from spikeloom import training

    result = training.evaluate(folder, checkpoint, timesteps=T, device=device, root=root)
    if as_json:
        names = ("checkpoint", "epochs", "samples", "loss", "accuracy", "firing_rates")
        figures = {name: getattr(result, name) for name in names}
        print_json(figures | {"spikes_per_sample": result.spikes, "total": result.rate})
    else:
        head(folder, result, f", T = {T}" if T else "")
        print_layers(result)
