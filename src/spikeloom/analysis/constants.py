"""What neurons have learned about themselves: time constants, thresholds, gates."""

from torch import nn

from spikeloom.analysis.rates import neuron_layers


def learned_constants(module: nn.Module) -> dict[str, dict[str, float]]:
    """Mean, minimum and maximum of every constant of every neuron layer.

    The keys are "<layer>/<constant>", for instance "layers.1/tau", in module order; the three
    figures are equal where a layer shares one scalar. Fixed constants are included, so that runs
    with and without learning can be laid side by side.
    """
    figures: dict[str, dict[str, float]] = {}
    for path, layer in neuron_layers(module).items():
        for name, values in layer.constants().items():
            values = values.detach().double()
            figures[f"{path}/{name}"] = {
                "mean": values.mean().item(),
                "min": values.min().item(),
                "max": values.max().item(),
            }
    return figures
