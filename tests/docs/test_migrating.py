"""The tables of docs/migrating.md: each pair of neurons gives the same spikes and gradients."""

from collections.abc import Callable

import pytest
import torch
from test_pages import BLOCKS
from torch import Tensor

import spikeloom as sl

Layer = Callable[[Tensor], Tensor]


def assert_same(theirs: Layer, ours: Layer, rtol: float = 1e-9) -> None:
    """Float64, so that no potential lies within rounding of the threshold by chance."""
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(12, 3, 20, generator=generator, dtype=torch.float64) * 4
    results = []
    for layer in (theirs, ours):
        leaf = x.clone().requires_grad_()
        spikes = layer(leaf)
        (spikes * x.cos()).sum().backward()
        results.append((spikes.detach(), leaf.grad))
    assert 0.05 < results[0][0].mean() < 0.95
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=rtol, atol=rtol / 10)


@pytest.mark.parametrize("v_reset", [0.0, -0.3, None])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("kind", ["if", "lif", "lif undecayed", "plif"])
def test_spikingjelly(kind: str, detach: bool, v_reset: float | None):
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import neuron, surrogate

    there = {
        "v_reset": v_reset,
        "detach_reset": detach,
        "step_mode": "m",
        "surrogate_function": surrogate.Sigmoid(alpha=4.0),
    }
    here = {"v_reset": v_reset, "detach_reset": detach, "surrogate": sl.Sigmoid(alpha=4.0)}
    pairs = {
        "if": lambda: (neuron.IFNode(**there), sl.IF(**here)),
        "lif": lambda: (neuron.LIFNode(tau=3.0, **there), sl.LIF(3.0, **here)),
        "lif undecayed": lambda: (
            neuron.LIFNode(tau=3.0, decay_input=False, **there),
            sl.LIF(3.0, decay_input=False, **here),
        ),
        "plif": lambda: (neuron.ParametricLIFNode(init_tau=3.0, **there), sl.PLIF(3.0, **here)),
    }
    theirs, ours = pairs[kind]()
    assert_same(theirs.double(), ours.double())
    if kind == "plif":
        assert list(theirs.state_dict()) == list(ours.state_dict()) == ["w"]


def test_spikingjelly_defaults():
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import neuron

    node = neuron.LIFNode()
    assert (node.tau, node.v_threshold, node.v_reset, node.detach_reset) == (2.0, 1.0, 0.0, False)
    assert type(node.surrogate_function).__name__ == "Sigmoid"
    assert node.surrogate_function.alpha == 4.0


SNNTORCH = 1e-4
"""Its spikes are float32 whatever its input is, and so is the gradient that enters them."""


def stepped(node: Callable[..., tuple[Tensor, Tensor]]) -> Layer:
    def run(x: Tensor) -> Tensor:
        membrane, spikes = torch.zeros_like(x[0]), []
        for current in x.unbind(0):
            spike, membrane = node(current, membrane)
            spikes.append(spike)
        return torch.stack(spikes)

    return run


def test_snntorch_reset_to_zero():
    snntorch = pytest.importorskip("snntorch")
    theirs = snntorch.Leaky(beta=0.75, reset_mechanism="zero").double()
    ours = sl.LIF(tau=4.0, decay_input=False, surrogate=sl.ATan(strict=True))
    assert_same(stepped(theirs), ours, SNNTORCH)


def test_snntorch_default_is_the_neuron_shown():
    snntorch = pytest.importorskip("snntorch")
    shown = next(b for b in BLOCKS["migrating.md"] if "class Leaky" in b.text)
    namespace: dict[str, object] = {}
    exec(compile(shown.text, str(shown), "exec"), namespace)
    theirs = snntorch.Leaky(beta=0.75).double()
    assert_same(stepped(theirs), namespace["Leaky"](0.75), SNNTORCH)  # type: ignore[operator]
