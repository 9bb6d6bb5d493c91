"""Training steps, logits, and firing rates of feedback networks equal the published code."""

from typing import Any

import pytest
import torch
from golden_compare import assert_abs, assert_rel
from golden_ide_nets import Arrays, build, dtype_of, inputs, named, places, tensor
from torch import Tensor, nn

from spikeloom.analysis.rates import FiringRates
from spikeloom.compiler.dispatch import available_backends
from spikeloom.components.optimizers import Sgd, make_optimizer
from spikeloom.methods.ide.feedback import ConvergenceWarning, FeedbackNetwork

BACKENDS = [name for name in available_backends() if name in ("eager", "cpu")]
QUIRKS = ("double-update", "eval-iteration")


def _with_readout(
    arrays: Arrays, backend: str, **settings: Any
) -> tuple[FeedbackNetwork, nn.Linear]:
    weight = tensor(arrays, "cls.W")
    size = None
    if arrays["x.W"].ndim == 4 and "s.g" in arrays:
        size = round((weight.shape[1] / arrays["s.g"].size / arrays["s.Wraw"].shape[0]) ** 0.5)
    net = build(arrays, backend, size, quirks=QUIRKS, **settings)
    readout = nn.Linear(weight.shape[1], weight.shape[0]).to(weight.dtype)
    with torch.no_grad():
        readout.weight.copy_(weight)
        readout.bias.copy_(tensor(arrays, "cls.b"))
    return net, readout


def _count(arrays: Arrays, name: str) -> int:
    return sum(f"{name}{k}" in arrays for k in range(1000))


@pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.ConvergenceWarning")
@pytest.mark.parametrize("solver", ["published-broyden", "broyden", "anderson"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_sgd_steps(ide_training: Arrays, backend: str, solver: str) -> None:
    """Losses, logits, and the final state; our solvers find the same gradient."""
    double = dtype_of(ide_training) == torch.float64
    tolerance = 1e-6 if double else 1e-4
    net, readout = _with_readout(ide_training, backend, solver=solver)
    config = Sgd(
        lr=float(ide_training["lr"]),
        momentum=float(ide_training["momentum"]),
        weight_decay=float(ide_training["weight_decay"]),
    )
    parameters = [*net.parameters(), *readout.parameters()]
    optimizer = make_optimizer(config, [{"params": parameters}])
    losses: list[Tensor] = []
    for k in range(_count(ide_training, "y")):
        logits = readout(net(inputs(ide_training, f"x{k}")).flatten(1))
        loss = nn.functional.cross_entropy(logits, tensor(ide_training, f"y{k}"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        assert_abs(logits, ide_training[f"logits{k}"], tolerance, f"logits {k}")
    assert_abs(torch.stack(losses), ide_training["loss"], tolerance, "loss")
    for prefix, transform in named(ide_training, net):
        for name, value in places(transform).items():
            key = f"{prefix}.{name}_end"
            if name == "b":  # ahead of BatchNorm: its gradient is rounding alone
                assert_abs(value, ide_training[key], 1e-10 if double else 1e-4, key)
                continue
            assert_rel(value, ide_training[key], 1e-6 if double else 1e-3, key)
    assert_rel(readout.weight, ide_training["cls.W_end"], 1e-6 if double else 1e-3, "readout")


@pytest.mark.parametrize("backend", BACKENDS)
def test_firing_rates(ide_rates: Arrays, backend: str) -> None:
    """Spikes per neuron and step of every layer. The authors' script divides once more, by the
    number of layers: we report its figures times that number."""
    double = dtype_of(ide_rates) == torch.float64
    net, readout = _with_readout(ide_rates, backend)
    net.eval()
    layers = len(net.neurons)
    with torch.no_grad(), FiringRates(net) as counter:
        for k in range(_count(ide_rates, "x")):
            counts: list[Tensor] = []

            def count(t: int, spikes: list[Tensor], counts: list[Tensor] = counts) -> None:
                for i, fired in enumerate(spikes):
                    if t:
                        counts[i] += fired.flatten(1)
                    else:
                        counts.append(fired.flatten(1).clone())

            with _muted(counter):
                logits = readout(net(inputs(ide_rates, f"x{k}")).flatten(1))
            assert_abs(logits, ide_rates[f"logits{k}"], 1e-10 if double else 2e-2, "logits")
            net(inputs(ide_rates, f"x{k}"), observe=count)
            for i in range(layers):
                name = f"rate{k}.layer{i + 1}"
                off = (counts[i] / int(ide_rates["T"]) - tensor(ide_rates, name)).abs()
                assert (off > (1e-12 if double else 1e-6)).double().mean() <= 0.005 * (not double)
    rates = torch.tensor(list(counter.per_layer().values()), dtype=torch.float64)
    spikes, neurons = map(sum, zip(*counter.counts().values(), strict=True))
    tolerance = 1e-12 if double else 1e-3
    assert_abs(rates, ide_rates["layer_rate_true"], tolerance, "rates of the layers")
    assert spikes / neurons == pytest.approx(float(ide_rates["total_rate_true"]), abs=tolerance)
    assert_abs(rates / layers, ide_rates["layer_rate_as_printed"], tolerance, "as printed")


class _muted:
    """The published script calls the network twice per batch and counts the second call."""

    def __init__(self, counter: FiringRates) -> None:
        self.counter = counter

    def __enter__(self) -> None:
        self.counter.__exit__(None, None, None)

    def __exit__(self, *_: object) -> None:
        self.counter.__enter__()
