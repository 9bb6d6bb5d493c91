"""Networks of snnTorch and Norse, converted: the same spikes and gradients, or refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikeloom.compat import from_norse, from_snntorch
from spikeloom.compat.peers import ConversionError, DelayedReset, DrivenLeak
from spikeloom.neurons import ATan, FastSigmoid

X = torch.randn(10, 4, 6, generator=torch.Generator().manual_seed(2)) * 1.5


def assert_equal(theirs: nn.Module, run: Callable[[Tensor], Tensor], ours: nn.Module) -> None:
    answers = []
    for function in (run, ours):
        x = X.clone().requires_grad_()
        y = function(x)
        (y * X.cos()).sum().backward()
        answers.append((y.detach(), x.grad))
    assert torch.equal(answers[0][0], answers[1][0])
    assert answers[0][0].count_nonzero() > 5
    torch.testing.assert_close(answers[0][1], answers[1][1], rtol=1e-4, atol=1e-6)
    weights = {p.shape: p.grad for p in theirs.parameters() if p.dim() == 2}
    assert weights
    for parameter in ours.parameters():
        if parameter.dim() == 2:
            wanted = weights[parameter.shape]
            torch.testing.assert_close(parameter.grad, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["Leaky", "Synaptic"])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_snntorch(kind: str, reset: str) -> None:
    snn = pytest.importorskip("snntorch")
    options: dict[str, Any] = {"beta": 0.8, "reset_mechanism": reset, "init_hidden": True}
    if kind == "Synaptic":
        options["alpha"] = 0.6
    slope = snn.surrogate.fast_sigmoid(slope=10)
    neuron = getattr(snn, kind)(**options, spike_grad=slope, learn_beta=True)
    net = nn.Sequential(nn.Linear(6, 6), neuron)

    def run(x: Tensor) -> Tensor:
        return torch.stack([net(step) for step in x])

    ours = from_snntorch(net)
    assert_equal(net, run, ours)
    beta = dict(ours.named_parameters())["1.beta"]
    torch.testing.assert_close(beta.grad, neuron.beta.grad, rtol=1e-4, atol=1e-5)


def test_snntorch_refuses_what_it_cannot_give_exactly() -> None:
    snn = pytest.importorskip("snntorch")
    for neuron, reason in (
        (snn.Alpha(alpha=0.9, beta=0.8), "Alpha of snnTorch"),
        (snn.Leaky(beta=0.9, inhibition=True), "inhibition"),
        (snn.Leaky(beta=0.9, spike_grad=snn.surrogate.SFS()), "has the gradient of none"),
        (snn.Leaky(beta=0.9, reset_delay=False), "reset_delay"),
    ):
        with pytest.raises(ConversionError, match=reason):
            from_snntorch(neuron)


@pytest.mark.parametrize("kind", ["LIFCell", "LIFBoxCell", "LICell", "LIBoxCell", "IAFCell"])
def test_norse(kind: str) -> None:
    norse = pytest.importorskip("norse.torch")
    net = norse.SequentialState(nn.Linear(6, 6), getattr(norse, kind)())

    def run(x: Tensor) -> Tensor:
        state, outputs = None, []
        for step in x * 10:
            y, state = net(step, state)
            outputs.append(y)
        return torch.stack(outputs)

    converted = from_norse(net)
    ours = nn.Sequential()
    ours.add_module("net", converted)
    assert_equal(net, run, _Scaled(converted))


class _Scaled(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x * 10)  # type: ignore[no-any-return]


def test_norse_refuses_what_it_cannot_give_exactly() -> None:
    norse = pytest.importorskip("norse.torch")
    with pytest.raises(ConversionError, match="is not converted"):
        from_norse(norse.LSNNCell())
    learned = norse.LIFBoxParameters(v_th=torch.tensor(1.0, requires_grad=True))
    with pytest.raises(ConversionError, match="v_th is a vector or learned"):
        from_norse(norse.LIFBoxCell(learned))


@pytest.mark.parametrize("kind", ["delayed", "driven"])
def test_kernels_equal_the_equations(kind: str) -> None:
    constants = {"beta": torch.tensor(0.8), "threshold": torch.tensor(1.0)}
    leak = {"a": 0.1, "b": 0.2, "v_leak": 0.0, "v_th": 0.5, "v_reset": -0.1}
    answers = []
    for backend in ("cpu", "eager"):
        neuron = (
            DelayedReset(constants, {"beta"}, "subtract", ATan(strict=True))
            if kind == "delayed"
            else DrivenLeak(leak, FastSigmoid(1.0, strict=True))
        )
        neuron.backend = backend  # type: ignore[assignment]
        x = (X * 4).requires_grad_()
        spikes = neuron(x)
        (spikes * X).sum().backward()
        answers.append([spikes, x.grad, *(p.grad for p in neuron.parameters())])
    assert 0 < answers[0][0].mean() < 1
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-4, atol=1e-5)


def test_a_constant_for_each_feature_is_no_constant_for_each_channel() -> None:
    """snnTorch spreads a vector over the last axis, kernels over the channels."""
    constants = {"beta": torch.rand(6), "threshold": torch.tensor(1.0)}
    neuron = DelayedReset(constants, set(), "subtract", ATan(strict=True))
    assert neuron(X).shape == X.shape
    with pytest.raises(ValueError, match="for each feature"):
        neuron(torch.rand(3, 2, 6, 5, 6))
