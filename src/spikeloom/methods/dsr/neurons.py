"""The activation that a network description asks for."""

from torch import nn

from spikeloom.methods.dsr.config import DsrNetwork
from spikeloom.methods.dsr.representation import IMAGENET_IF_SCALE, DsrIF, DsrLIF, Represented
from spikeloom.neurons import ScaledIF

_DEFAULTS = {
    "if": {"threshold": 6.0, "alpha": 0.5, "threshold_bound": 0.01},
    "lif": {"threshold": 0.3, "alpha": 0.3, "threshold_bound": 5e-4},
}


def make_activation(network: DsrNetwork) -> nn.Module:
    """A new layer of neurons, or a ReLU in an ANN; settings left None are the published ones."""
    if network.neuron == "relu":
        return nn.ReLU()
    given = {name: getattr(network, name) for name in _DEFAULTS[network.neuron]}
    setting = {
        name: _DEFAULTS[network.neuron][name] if value is None else value
        for name, value in given.items()
    }
    # A threshold that starts below its bound is lifted to it.
    start = max(setting["threshold"], setting["threshold_bound"])
    options = {
        "alpha": setting["alpha"],
        "bound": setting["threshold_bound"],
        "learn_threshold": network.learn_threshold,
    }
    neuron: Represented
    if network.neuron == "if":
        neuron = DsrIF(start, **options)
    else:
        neuron = DsrLIF(start, tau=network.tau, delta_t=network.delta_t, **options)
    if network.threshold_gradient == "true":
        neuron.threshold_scale = neuron.true_scale
    elif network.name.startswith("imagenet") and isinstance(neuron, ScaledIF):
        neuron.threshold_scale = IMAGENET_IF_SCALE
    return neuron
