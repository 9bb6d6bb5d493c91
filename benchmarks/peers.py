"""The same neuron in other libraries, where they are installed (`benchmarks/requirements.txt`).

A peer is configured to compute what ours computes; the runner checks that it does before it
times it.
"""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.leaky_peers import Network, installed, norse, sinabs, snntorch
from spikeloom.methods.dsr.representation import DsrLIF, Represented
from spikeloom.neurons import (
    GLIF,
    IF,
    LIF,
    PLIF,
    ATan,
    FastSigmoid,
    Neuron,
    Rectangle,
    Sigmoid,
    Surrogate,
)

__all__ = ["PEERS", "Network", "installed", "norse", "sinabs", "snntorch", "spikingjelly"]


def spikingjelly(neuron: Neuron) -> tuple[Network, nn.Module] | None:
    """SpikingJelly's multi-step node with the same equation; None if it has none."""
    if not installed("spikingjelly"):
        return None
    functional, surrogate, nodes = (
        importlib.import_module(f"spikingjelly.activation_based.{name}")
        for name in ("functional", "surrogate", "neuron")
    )

    if isinstance(neuron, GLIF):
        return gated_lif_node(neuron)
    if isinstance(neuron, Represented):
        return dsr_node(neuron)
    slope = _spikingjelly_surrogate(surrogate, neuron.surrogate)
    if not isinstance(neuron, (IF, LIF, PLIF)) or slope is None:
        return None
    shared: dict[str, Any] = {
        "v_threshold": neuron.v_threshold,
        "v_reset": neuron.v_reset,
        "detach_reset": neuron.detach_reset,
        "surrogate_function": slope,
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


def _spikingjelly_surrogate(theirs: Any, ours: Surrogate) -> nn.Module | None:
    """The surrogate with the same derivative among those that SpikingJelly fuses on a GPU."""
    if ours.coefs():
        return None
    if isinstance(ours, ATan):
        return theirs.ATan(alpha=ours.alpha)
    if isinstance(ours, Sigmoid):
        return theirs.Sigmoid(alpha=ours.alpha)
    if isinstance(ours, FastSigmoid) and ours.k == 1.0:
        return theirs.SuperSpike(alpha=1.0)
    return None


def gated_lif_node(neuron: GLIF) -> tuple[Network, nn.Module] | None:
    """SpikingJelly's `GatedLIFNode` with the parameters of `neuron`.

    As its constructor leaves it, it computes another function: random gates, a linear leak of
    Vth / (2 T), and a sigmoid surrogate of slope 4. It keeps one conductance for each of T steps,
    takes `[T, B, C, H, W]` and nothing else, and fires at the threshold, where GLIF fires above it.
    None for gates that are not soft, parameters that are not per channel or do not learn, and
    surrogates other than the rectangle.
    """
    window = neuron.surrogate
    per_channel = neuron.alpha.dim() == 1 and not neuron.time_wise
    learned = neuron.gates == "soft" and neuron.tau.requires_grad
    if not (isinstance(window, Rectangle) and per_channel and learned):
        return None
    functional, surrogate, nodes = (
        importlib.import_module(f"spikingjelly.activation_based.{name}")
        for name in ("functional", "surrogate", "neuron")
    )
    theirs = {
        "alpha": neuron.alpha,
        "beta": neuron.beta,
        "gamma": neuron.gamma,
        "tau": neuron.tau,
        "v_threshold": neuron.Vth,
        "linear_decay": neuron.leak,
        "v_subreset": neuron.reVth,
        "conduct": neuron.conduct,
    }
    holder = nn.ModuleDict()

    def run(x: Tensor) -> Tensor:
        if not holder:  # its conductances need T
            rectangle = surrogate.Rect(alpha=1 / window.width)
            node = nodes.GatedLIFNode(x.shape[0], x.shape[2], surrogate_function=rectangle)
            with torch.no_grad():
                for name, value in theirs.items():
                    getattr(node, name).copy_(value)
            holder["node"] = node.to(x.device)
        functional.reset_net(holder["node"])
        image = x.shape if x.dim() == 5 else (*x.shape, 1, 1)
        return holder["node"](x.reshape(image)).reshape(x.shape)

    return run, holder


def dsr_node(neuron: Represented) -> tuple[Network, nn.Module] | None:
    """SpikingJelly's `DSRIFNode` or `DSRLIFNode`, with the published scale of the threshold's
    gradient; None for another scale. Its backward pass divides by a T that must be given first.
    """
    if neuron.threshold_scale != neuron.published_scale:
        return None
    nodes = importlib.import_module("spikingjelly.activation_based.neuron")
    shared: dict[str, Any] = {
        "v_threshold": neuron.threshold.item(),
        "alpha": neuron.alpha,
        "v_threshold_lower_bound": neuron.bound,
        "step_mode": "m",
    }
    holder = nn.ModuleDict()

    def run(x: Tensor) -> Tensor:
        if not holder and isinstance(neuron, DsrLIF):
            holder["node"] = nodes.DSRLIFNode(
                T=x.shape[0], tau=neuron.tau, delta_t=neuron.delta_t, **shared
            )
        elif not holder:
            holder["node"] = nodes.DSRIFNode(T=x.shape[0], **shared)
        return holder["node"](x)

    return run, holder


PEERS: dict[str, Callable[[Neuron], tuple[Network, nn.Module] | None]] = {
    "spikingjelly": spikingjelly,
    "snntorch": snntorch,
    "norse": norse,
    "sinabs": sinabs,
}
"""Each peer by its package: a function that answers a neuron with the peer's own, or None."""
