"""Feedback networks equal the published code: rates, the rate map, running statistics, and the
implicit gradient by every solver."""

import numpy as np
import pytest
import torch
from golden_compare import assert_abs, assert_rel
from golden_ide_nets import Arrays, build, dtype_of, inputs, masks, named, places, tensor
from torch import Tensor

from spikeloom.compiler.dispatch import available_backends
from spikeloom.methods.ide.feedback import ConvergenceWarning, FeedbackNetwork

BACKENDS = [name for name in available_backends() if name in ("eager", "cpu")]
SOLVERS = {"dense": 1, "broyden": 60, "anderson": 60, "fixed-point": 600}


def _net(arrays: Arrays, backend: str = "cpu", **settings: object) -> FeedbackNetwork:
    """As the authors' code runs it, except for what `settings` change."""
    rate = arrays["rate"]
    quirks = ["double-update", "eval-iteration"]
    if int(arrays.get("x_changed_by_forward", 0)):
        quirks.append("event-mean")
    settings = {"quirks": tuple(quirks)} | settings
    backend = backend if backend in BACKENDS else "auto"
    return build(arrays, backend, rate.shape[2] if rate.ndim == 4 else None, **settings)


def _is_double(arrays: Arrays) -> bool:
    return dtype_of(arrays) == torch.float64


def _assert_rates(actual: Tensor, arrays: Arrays, name: str) -> None:
    """float64: every element. float32: all but one in 200, where a spike may flip."""
    if _is_double(arrays):
        assert_abs(actual, arrays[name], 1e-12, name)
    else:
        off = np.abs(actual.detach().numpy() - arrays[name]) > 1e-6
        assert off.mean() <= 0.005, f"{name}: {off.sum()} of {off.size} rates differ"


def _assert_gradient(actual: Tensor, arrays: Arrays, key: str, double: float, single: float):
    """Tolerances are parts of the array's largest value; a bias ahead of BatchNorm has none, and
    the one number that a gain is has fewer digits."""
    tolerance = double if _is_double(arrays) else single
    prefix, _, name = key.rpartition(".")
    if name == "b" and f"{prefix}.gamma" in arrays.keys() | {f"{prefix[6:]}.gamma"}:
        assert_abs(actual, arrays[key], 1e-10 if _is_double(arrays) else 1e-4, key)
    elif name == "g":
        assert_rel(actual, arrays[key], max(tolerance, double if _is_double(arrays) else 1e-4), key)
    else:
        assert_rel(actual, arrays[key], tolerance, key)


def _assert_gradients(
    net: FeedbackNetwork, x: Tensor, arrays: Arrays, kind: str, double: float, single: float
) -> None:
    checked = 0
    for prefix, transform in named(arrays, net):
        for name, value in places(transform).items():
            key = f"{kind}.{prefix}.{name}"
            if key in arrays:
                assert value.grad is not None
                _assert_gradient(value.grad, arrays, key, double, single)
                checked += 1
    if f"{kind}.input" in arrays:
        assert x.grad is not None
        _assert_gradient(x.grad, arrays, f"{kind}.input", double, single)
    assert checked >= 5


@pytest.mark.parametrize("backend", BACKENDS)
def test_simulation_and_rate_map(ide_net: Arrays, backend: str) -> None:
    net = _net(ide_net, backend)
    tolerance = 1e-12 if _is_double(ide_net) else 1e-5
    rates: list[list[Tensor]] = []
    simulate = net.simulate

    def spy(*arguments: object) -> list[Tensor]:
        rates.append(simulate(*arguments))  # type: ignore[arg-type]
        return rates[-1]

    net.simulate = spy  # type: ignore[method-assign]
    rate = net(inputs(ide_net), masks=masks(ide_net))
    _assert_rates(rate, ide_net, "rate")
    if "rate_first" in ide_net:
        _assert_rates(rates[0][0], ide_net, "rate_first")

    for prefix, transform in named(ide_net, net):
        for name, value in places(transform).items():
            if name in ("u", "v"):
                assert_abs(value, ide_net[f"{prefix}.{name}_after"], tolerance, f"{prefix}.{name}")
            if name in ("rm", "rv"):
                assert_rel(value, ide_net[f"{prefix}.{name}_after"], tolerance, f"{prefix}.{name}")

    probe = _net(ide_net, backend)
    drive, _ = probe.drive(inputs(ide_net), masks(ide_net))
    assert drive is not None
    image = probe.rate_map(tensor(ide_net, "rate"), drive, masks(ide_net), "batch")
    assert_abs(image, ide_net["f_rate"], tolerance, "f(rate)")
    residual = ((image - tensor(ide_net, "rate")).norm() / tensor(ide_net, "rate").norm()).detach()
    assert_rel(
        residual, ide_net["residual_rel"], 1e-10 if _is_double(ide_net) else 1e-4, "residual"
    )


@pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.ConvergenceWarning")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_gradient_equals_the_exact_one(ide_net: Arrays, solver: str, backend: str) -> None:
    # As far as the dtype goes: in float32 rounding may end the search just above 1e-7.
    tol = 1e-12 if _is_double(ide_net) else 1e-7
    net = _net(ide_net, backend, solver=solver, max_iter=SOLVERS[solver], tol=tol)
    x = inputs(ide_net)
    if "gradx.input" in ide_net:
        x.requires_grad_()
    net(x, masks=masks(ide_net)).backward(tensor(ide_net, "G"))
    assert net.statistics()["solver residual, worst"] <= 10 * tol
    _assert_gradients(net, x, ide_net, "gradx", 1e-8, 2e-5)


@pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.ConvergenceWarning")
@pytest.mark.parametrize("backend", BACKENDS)
def test_published_solver_is_reproduced(ide_net: Arrays, backend: str) -> None:
    """The authors' gradients, by their solver: Broyden's, or the iteration with the wrong limit."""
    broyden = "broyden_trace" in ide_net
    net = _net(ide_net, backend, solver="published-broyden" if broyden else "published-iter")
    x = inputs(ide_net)
    if "grad.input" in ide_net:
        x.requires_grad_()
    net(x, masks=masks(ide_net)).backward(tensor(ide_net, "G"))
    steps = net.statistics()["solver steps"]
    if not broyden:
        _assert_gradients(net, x, ide_net, "grad", 1e-9, 2e-5)
        return
    # A file whose solver gave up early is as far from the exact gradient as it stopped.
    loose = ide_net["broyden_residual"] > 1e-6 * np.abs(ide_net["G"]).max()
    _assert_gradients(net, x, ide_net, "grad", 1e-3 if loose else 1e-6, 5e-3 if loose else 2e-4)
    if _is_double(ide_net):
        assert abs(steps - int(ide_net["broyden_nstep"])) <= 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_evaluation(ide_net: Arrays, backend: str) -> None:
    net = _net(ide_net, backend).eval()
    with torch.no_grad():
        rate = net(inputs(ide_net))
    tolerance = 1e-12 if _is_double(ide_net) else 1e-5
    _assert_rates(rate, ide_net, "eval_rate")
    prefix, feedback = named(ide_net, net)[-1]
    assert_abs(
        places(feedback)["u"], ide_net[f"{prefix}.u_after_eval"], tolerance, "u after evaluation"
    )
    if "eval_logits" in ide_net:
        logits = rate.flatten(1) @ tensor(ide_net, "cls.W").T + tensor(ide_net, "cls.b")
        assert_abs(logits, ide_net["eval_logits"], 1e-10 if _is_double(ide_net) else 2e-2, "logits")


def test_default_evaluation_leaves_the_network_alone(ide_net: Arrays) -> None:
    net = _net(ide_net, quirks=()).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        first, second = net(inputs(ide_net)), net(inputs(ide_net))
    assert torch.equal(first, second)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
