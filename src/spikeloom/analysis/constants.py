"""What neurons have learned about themselves: time constants, thresholds, gates; and how these are
spread within a layer, before training and after.
"""

from typing import NamedTuple

from torch import Tensor, nn

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


class Spread(NamedTuple):
    """The values of one constant in one layer, flattened: per channel, per time step, or both."""

    layer: str
    before: Tensor
    after: Tensor


def constant_distributions(before: nn.Module, after: nn.Module) -> dict[str, tuple[Spread, ...]]:
    """For every constant that some layer has more than one value of, the layers that have it.

    `before` and `after` are the same network, as it started and trained. Constants are those of
    `Neuron.constants()`, by their names there, layers in module order.
    """
    first = neuron_layers(before)
    by_name: dict[str, list[Spread]] = {}
    for path, layer in neuron_layers(after).items():
        initial = first[path].constants()
        for name, values in layer.constants().items():
            spread = Spread(path, *(v.detach().flatten().cpu() for v in (initial[name], values)))
            by_name.setdefault(name, []).append(spread)
    return {
        name: tuple(spreads)
        for name, spreads in by_name.items()
        if any(spread.after.numel() > 1 for spread in spreads)
    }
