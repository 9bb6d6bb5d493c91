"""LIF in snnTorch, Norse and sinabs, each set up to compute what ours computes.

All three step through time in Python. Reset to zero, its gradient detached as in ours. Each takes
surrogates of its own; where it allows one from outside, it is given ours. None comes back where a
library cannot say the neuron, or is not installed.
"""

import importlib
import importlib.util
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikeloom.neurons import LIF, FastSigmoid, Neuron

Network = Callable[[Tensor], Tensor]


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _plain_lif(neuron: Neuron) -> LIF | None:
    """`neuron` if it is a LIF with reset to zero, detached, and a surrogate that does not learn."""
    if not isinstance(neuron, LIF) or neuron.surrogate.coefs():
        return None
    return neuron if neuron.v_reset == 0 and neuron.detach_reset else None


def snntorch(neuron: Neuron) -> tuple[Network, nn.Module] | None:
    """snnTorch's `Leaky`, which leaves the input undecayed: `u_t = (1 - 1/tau) u_{t-1} + x_t`.

    A decayed input is the same neuron in units of u = tau v: a threshold tau times as high, and a
    surrogate stretched as much.
    """
    if not installed("snntorch") or (lif := _plain_lif(neuron)) is None:
        return None
    package = importlib.import_module("snntorch")
    surrogate = importlib.import_module("snntorch.surrogate")
    unit = lif.tau if lif.decay_input else 1.0

    def gradient(above: Tensor, upstream: Tensor, spikes: Tensor) -> Tensor:
        return upstream * lif.surrogate.derivative(above / unit) / unit

    node = package.Leaky(
        beta=1 - 1 / lif.tau,
        threshold=lif.v_threshold * unit,
        spike_grad=surrogate.custom_surrogate(gradient),
        reset_mechanism="zero",
    )

    def run(x: Tensor) -> Tensor:
        membrane = torch.zeros_like(x[0])
        spikes = []
        for current in x.unbind(0):
            spike, membrane = node(current, membrane)
            spikes.append(spike)
        return torch.stack(spikes)

    return run, node


def norse(neuron: Neuron) -> tuple[Network, nn.Module] | None:
    """Norse's `LIFBoxCell` under `Lift`, which walks through time; the cell alone is one step.

    Its SuperSpike has the slope 1 whatever `alpha` says, and it is the one surrogate that both
    sides have: None for any other than `FastSigmoid(k=1)`. Its input is decayed.
    """
    if not installed("norse") or (lif := _plain_lif(neuron)) is None or not lif.decay_input:
        return None
    if not isinstance(lif.surrogate, FastSigmoid) or lif.surrogate.k != 1.0:
        return None
    package = importlib.import_module("norse.torch")
    box = importlib.import_module("norse.torch.functional.lif_box")

    def detached_reset(z: Tensor, v: Tensor, reset: Tensor, threshold: Tensor) -> Tensor:
        return (1 - z.detach()) * v

    parameters = box.LIFBoxParameters(
        tau_mem_inv=torch.tensor(1 / lif.tau),
        v_th=torch.tensor(lif.v_threshold),
        method="super",
        reset_method=detached_reset,
    )
    node = package.Lift(package.LIFBoxCell(parameters, dt=1.0))
    return lambda x: node(x)[0], node


def sinabs(neuron: Neuron) -> tuple[Network, nn.Module] | None:
    """sinabs' `LIF` with one spike a step and our surrogate; it wants `[B, T, ...]`."""
    if not installed("sinabs") or (lif := _plain_lif(neuron)) is None:
        return None
    layers = importlib.import_module("sinabs.layers")
    activation = importlib.import_module("sinabs.activation")

    def derivative(v: Tensor, threshold: Any) -> Tensor:
        return lif.surrogate.derivative(v - threshold)

    node = layers.LIF(
        tau_mem=-1 / math.log(1 - 1 / lif.tau) if lif.tau > 1 else 1e-6,
        spike_threshold=torch.tensor(lif.v_threshold),
        spike_fn=activation.SingleSpike,
        reset_fn=activation.MembraneReset(),
        surrogate_grad_fn=derivative,
        train_alphas=True,
        norm_input=lif.decay_input,
    )
    # the decay itself, not rounded through exp and log, and not learned
    node.alpha_mem.requires_grad_(False).fill_(1 - 1 / lif.tau)

    def run(x: Tensor) -> Tensor:
        node.reset_states()
        return node(x.movedim(0, 1)).movedim(1, 0)

    return run, node
