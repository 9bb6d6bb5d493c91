"""The same neuron in other libraries, where the extra `bench` is installed.

A peer is configured to compute what ours computes; the runner checks that it does before it
times it.
"""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikeloom.neurons import IF, LIF, PLIF, Neuron

Network = Callable[[Tensor], Tensor]


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def spikingjelly(neuron: Neuron) -> tuple[Network, nn.Module] | None:
    """SpikingJelly's multi-step node with the same equation; None if it has none."""
    if not installed("spikingjelly"):
        return None
    functional, surrogate, nodes = (
        importlib.import_module(f"spikingjelly.activation_based.{name}")
        for name in ("functional", "surrogate", "neuron")
    )

    if not isinstance(neuron, (IF, LIF, PLIF)):
        return None
    shared: dict[str, Any] = {
        "v_threshold": neuron.v_threshold,
        "v_reset": neuron.v_reset,
        "detach_reset": neuron.detach_reset,
        "surrogate_function": surrogate.ATan(alpha=2.0),
        "step_mode": "m",
    }
    if isinstance(neuron, PLIF):
        if neuron.w.numel() != 1:
            return None
        node = nodes.ParametricLIFNode(
            init_tau=float(neuron.tau), decay_input=neuron.decay_input, **shared
        )
    elif isinstance(neuron, LIF):
        node = nodes.LIFNode(tau=neuron.tau, decay_input=neuron.decay_input, **shared)
    else:
        node = nodes.IFNode(**shared)

    def run(x: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(x)

    return run, node


def snntorch(neuron: Neuron) -> tuple[Network, nn.Module] | None:
    """snnTorch's Leaky, stepped over unbound time; its equation leaves the input undecayed."""
    if not installed("snntorch"):
        return None
    if not isinstance(neuron, LIF) or neuron.v_reset != 0 or neuron.decay_input:
        return None
    package = importlib.import_module("snntorch")
    surrogate = importlib.import_module("snntorch.surrogate")
    node = package.Leaky(
        beta=1 - 1 / neuron.tau,
        threshold=neuron.v_threshold,
        spike_grad=surrogate.atan(alpha=2.0),
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


PEERS: dict[str, Callable[[Neuron], tuple[Network, nn.Module] | None]] = {
    "spikingjelly": spikingjelly,
    "snntorch": snntorch,
}
