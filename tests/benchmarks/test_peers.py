"""Peers compute what ours computes, where they are installed (`benchmarks/requirements.txt`)."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from benchmarks.leaky_peers import Network, norse, sinabs, snntorch
from benchmarks.peers import spikingjelly
from spikeloom.neurons import GLIF, LIF, ATan, FastSigmoid, Neuron

Library = Callable[[Neuron], tuple[Network, nn.Module] | None]


@pytest.mark.parametrize("places", [(), (3, 3)])
@pytest.mark.parametrize("time_steps", [None, 4])
def test_spikingjellys_gated_node_computes_glif(
    places: tuple[int, ...], time_steps: int | None
) -> None:
    pytest.importorskip("spikingjelly")
    torch.manual_seed(1)
    neuron = GLIF(5, time_steps, gate="random", backend="eager")
    peer = spikingjelly(neuron)
    assert peer is not None
    x = torch.randn(4, 2, 5, *places)
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    spikes, other = neuron(ours), peer[0](theirs)
    assert torch.equal(spikes, other) and 0 < spikes.mean() < 1
    upstream = torch.randn(x.shape)
    spikes.backward(upstream)
    other.backward(upstream)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)
    gradients = {name: value.grad for name, value in peer[1].named_parameters()}
    assert neuron.alpha.grad is not None and neuron.conduct.grad is not None
    gate, conductance = gradients["node.alpha"], gradients["node.conduct"]
    assert gate is not None and conductance is not None
    torch.testing.assert_close(neuron.alpha.grad, gate, rtol=1e-4, atol=1e-5)
    conductance = conductance if time_steps else conductance.sum(0)
    torch.testing.assert_close(neuron.conduct.grad, conductance, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "neuron",
    [
        GLIF(5, gates="hard"),
        GLIF(None),
        GLIF(5, learn_membrane=False),
        GLIF(5, 4, time_wise=True),
    ],
    ids=["hard gates", "one set per layer", "constant membrane", "all per step"],
)
def test_a_glif_that_spikingjelly_does_not_have_has_no_peer(neuron: Neuron) -> None:
    pytest.importorskip("spikingjelly")
    assert spikingjelly(neuron) is None


@pytest.mark.parametrize("library", [snntorch, norse, sinabs, spikingjelly])
@pytest.mark.parametrize("tau", [2.0, 3.0])
def test_lif_of_other_libraries_computes_ours(library: Library, tau: float) -> None:
    pytest.importorskip(library.__name__)
    torch.manual_seed(2)
    neuron = LIF(tau, surrogate=FastSigmoid(1.0), backend="eager")
    peer = library(neuron)
    assert peer is not None
    x = torch.randn(12, 3, 40) * 2
    upstream = torch.randn(x.shape)
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    spikes = neuron(ours)
    spikes.backward(upstream)
    for _ in range(2):  # a second call starts from rest as well
        theirs.grad = None
        other = peer[0](theirs)
        other.backward(upstream)
        assert torch.equal(spikes, other) and 0 < spikes.mean() < 1
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("library", [snntorch, norse, sinabs, spikingjelly])
@pytest.mark.parametrize(
    "neuron",
    [GLIF(4, gates="hard"), LIF(surrogate=ATan(learnable=True)), LIF(v_reset=None)],
    ids=["another neuron", "a surrogate that learns", "soft reset"],
)
def test_no_peer_where_its_equation_is_another(library: Library, neuron: Neuron) -> None:
    pytest.importorskip(library.__name__)
    if library is spikingjelly and isinstance(neuron, LIF) and neuron.v_reset is None:
        assert library(neuron) is not None  # it has the soft reset
    else:
        assert library(neuron) is None
