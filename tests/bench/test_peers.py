"""Peers are configured to compute what ours computes, where the extra `bench` is installed."""

import pytest
import torch

from spikeloom.bench.peers import spikingjelly
from spikeloom.neurons import GLIF, Neuron


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
