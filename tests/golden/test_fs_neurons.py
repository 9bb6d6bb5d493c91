"""The neurons of first-spike coding equal both published implementations."""

import math

import numpy as np
import pytest
import torch
from golden_compare import assert_exact
from golden_fs import (
    BACKENDS,
    DTYPES,
    STATE,
    Arrays,
    assert_gradient,
    assert_state,
    cases,
    rounded,
    tensor,
)
from torch import Tensor, nn

from spikeloom.neurons import AdLIF, CuLIF, FastSigmoid, Neuron, PCuLIF
from spikeloom.nn import Recurrent, Sequential

# Every case has constants of its own, and each set is compiled: what the warning warns of.
pytestmark = pytest.mark.filterwarnings("ignore:.*different sets of constants")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=DTYPES)
def suffix(request: pytest.FixtureRequest) -> str:
    """The precision as the arrays name it."""
    return request.param


def _options(case: Arrays, backend: str) -> dict[str, object]:
    v_reset = float(case["v_reset"])
    return {
        "v_threshold": float(case["v_threshold"]),
        "v_reset": None if math.isnan(v_reset) else v_reset,
        "detach_reset": bool(case["detach_reset"]),
        "backend": backend,
    }


def _check(neuron: Neuron, case: Arrays, suffix: str, records: dict[str, str]) -> None:
    """Spikes, records (ours: theirs), and the gradient of the input for spikes weighted by g_s."""
    dtype = DTYPES[suffix]
    x = tensor(case["x"], dtype).requires_grad_()
    run = neuron(x, None, tuple(records))
    assert_exact(run.spikes, case[f"s_{suffix}"], "spikes")
    for ours, theirs in records.items():
        assert_state(run.records[ours], case[f"{theirs}_{suffix}"], suffix, ours)
    (run.spikes * tensor(case["g_s"], dtype)).sum().backward()
    assert_gradient(x.grad, case[f"grad_x_{suffix}"], suffix, "gradient of x")


def test_culif(fs_culif: Arrays, backend: str, suffix: str) -> None:
    for case in cases(fs_culif, "tau_mem").values():
        neuron = CuLIF(float(case["tau_mem"]), float(case["tau_syn"]), **_options(case, backend))  # type: ignore[arg-type]
        _check(neuron, case, suffix, {"v": "v", "i": "I", "h": "h"})


def test_pculif(fs_pculif: Arrays, backend: str, suffix: str) -> None:
    for case in cases(fs_pculif, "x").values():
        shape = case["decay_mem"].shape[1:]
        neuron = PCuLIF(2.0, 2.0, shape=shape, **_options(case, backend))  # type: ignore[arg-type]
        neuron.membrane.data = tensor(case["decay_mem"]).reshape(shape)
        neuron.synapse.data = tensor(case["decay_syn"]).reshape(shape)
        neuron = neuron.to(DTYPES[suffix])
        _check(neuron, case, suffix, {"v": "v", "i": "I", "h": "h"})
        for ours, theirs in ((neuron.membrane, "decay_mem"), (neuron.synapse, "decay_syn")):
            assert_gradient(ours.grad, case[f"grad_{theirs}_{suffix}"], suffix, theirs)


def test_adlif(fs_adlif: Arrays, backend: str, suffix: str) -> None:
    names = {"membrane": "decay_mem", "adaptation": "decay_osc", "a": "a", "b": "b"}
    for case in cases(fs_adlif, "x").values():
        shape = case["decay_mem"].shape[1:]
        neuron = AdLIF(2.0, shape=shape, **_options(case, backend))  # type: ignore[arg-type]
        for ours, theirs in names.items():
            getattr(neuron, ours).data = tensor(case[theirs]).reshape(shape)
        neuron = neuron.to(DTYPES[suffix])
        _check(neuron, case, suffix, {"v": "v", "w": "w", "h": "h"})
        for ours, theirs in names.items():
            grad = getattr(neuron, ours).grad
            assert_gradient(grad, case[f"grad_{theirs}_{suffix}"], suffix, theirs)


def test_initial_raw_decays(fs_adlif: Arrays, fs_pculif: Arrays) -> None:
    for arrays, kind, slow, theirs in (
        (fs_adlif, AdLIF, "adaptation", "osc"),
        (fs_pculif, PCuLIF, "synapse", "syn"),
    ):
        for case in cases(arrays, "tau_mem").values():
            neuron = kind(float(case["tau_mem"]), float(case[f"tau_{theirs}"]))
            for ours, name in (("membrane", "mem"), (slow, theirs)):
                raw = getattr(neuron, ours).item()
                # exp(1 / tau) - 1 in float32 loses digits: the published start is off by as much.
                assert raw == pytest.approx(float(case[f"decay_{name}"]), abs=2e-5), name


def _linear(weight: np.ndarray, dtype: torch.dtype) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=dtype)
    layer.weight.data = tensor(weight, dtype)
    return layer


@pytest.mark.parametrize("kind", ["fix", "train", "rec"])
def test_autograd_layers(fs_layers: Arrays, kind: str, backend: str, suffix: str) -> None:
    dtype = DTYPES[suffix]
    case = {
        name.removeprefix(f"{kind}_"): value
        for name, value in fs_layers.items()
        if name.startswith(f"{kind}_")
    }
    shape = case["alpha"].shape[1:]
    neuron = PCuLIF(
        float(case["tau_m"]),
        float(case["tau_s"]),
        shape=shape,
        form="direct",
        learn=f"grad_alpha_{suffix}" in case,
        v_threshold=rounded(case["theta"]),
        delay=2,
        backend=backend,  # type: ignore[arg-type]
    )
    if not shape:  # per neuron, the arrays were moved away from their start
        assert_state(neuron.membrane, case["beta"], "f32", "initial beta")
        assert_state(neuron.synapse, case["alpha"], "f32", "initial alpha")
    neuron.membrane.data = tensor(case["beta"]).reshape(shape)
    neuron.synapse.data = tensor(case["alpha"]).reshape(shape)
    neuron = neuron.to(dtype)
    weights = _linear(case["w"].T, dtype)
    x = tensor(case["x"], dtype).requires_grad_()
    current = weights(x)
    if "v" in case:
        layer = Recurrent(neuron, len(case["v"]), into="i").to(dtype)
        layer.recurrent.weight.data = tensor(case["v"].T, dtype)
        spikes = layer(current)
        feedback = layer.recurrent.weight
    else:
        run = neuron(current, None, ("h", "v", "i"))
        spikes, feedback = run.spikes, None
        names = {"h": "u_tested", "v": "mem_after", "i": "syn_after"}
        for ours, theirs in names.items():
            assert_state(run.records[ours], case[f"{theirs}_{suffix}"], suffix, theirs)
    assert_exact(spikes, case[f"s_{suffix}"], "spikes")
    (spikes * tensor(case["g_s"], dtype)).sum().backward()
    assert_gradient(x.grad, case[f"grad_x_{suffix}"], suffix, "gradient of x")
    assert weights.weight.grad is not None
    assert_gradient(weights.weight.grad.T, case[f"grad_w_{suffix}"], suffix, "gradient of w")
    if feedback is not None:
        assert feedback.grad is not None
        assert_gradient(feedback.grad.T, case[f"grad_v_{suffix}"], suffix, "gradient of v")
    if f"grad_alpha_{suffix}" in case:
        assert_gradient(neuron.synapse.grad, case[f"grad_alpha_{suffix}"], suffix, "alpha")
        assert_gradient(neuron.membrane.grad, case[f"grad_beta_{suffix}"], suffix, "beta")


def test_autograd_convolution_and_average_pooling(fs_layers: Arrays, backend: str) -> None:
    weight = fs_layers["conv_w"]
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, bias=False)
    conv.weight.data = tensor(weight)

    def neuron(threshold: str) -> PCuLIF:
        made = PCuLIF(
            float(fs_layers["conv_tau_m"]),
            float(fs_layers["conv_tau_s"]),
            form="direct",
            learn=False,
            v_threshold=rounded(fs_layers[threshold]),
            delay=2,
            backend=backend,  # type: ignore[arg-type]
        )
        return made.double()

    first = Sequential(conv, neuron("conv_theta_conv"))
    second = Sequential(nn.AvgPool2d(2), neuron("conv_theta_pool"))
    x = tensor(fs_layers["conv_x"]).requires_grad_()
    spikes = first(x)
    assert_exact(spikes, fs_layers["conv_s_conv_f64"], "spikes after the convolution")
    pooled = second(spikes)
    assert_exact(pooled, fs_layers["conv_s_pool_f64"], "spikes after pooling")
    (pooled * tensor(fs_layers["conv_g_s_pool"])).sum().backward()
    assert_gradient(x.grad, fs_layers["conv_grad_x_f64"], "f64", "gradient of x")
    assert_gradient(conv.weight.grad, fs_layers["conv_grad_w_f64"], "f64", "gradient of w")


def test_recurrent_container(fs_recurrent: Arrays, backend: str, suffix: str) -> None:
    dtype = DTYPES[suffix]
    neuron = CuLIF(
        float(fs_recurrent["tau_mem"]),
        float(fs_recurrent["tau_syn"]),
        v_threshold=float(fs_recurrent["v_threshold"]),
        backend=backend,  # type: ignore[arg-type]
    )
    layer = Recurrent(neuron, len(fs_recurrent["w_rec"])).to(dtype)
    layer.recurrent.weight.data = tensor(fs_recurrent["w_rec"], dtype)
    weights = _linear(fs_recurrent["w_in"], dtype)
    x = tensor(fs_recurrent["x"], dtype).requires_grad_()
    spikes = layer(weights(x))
    assert_exact(spikes, fs_recurrent[f"s_{suffix}"], "spikes")
    (spikes * tensor(fs_recurrent["g_s"], dtype)).sum().backward()
    assert_gradient(x.grad, fs_recurrent[f"grad_x_{suffix}"], suffix, "gradient of x")
    for parameter, name in ((weights.weight, "w_in"), (layer.recurrent.weight, "w_rec")):
        assert_gradient(parameter.grad, fs_recurrent[f"grad_{name}_{suffix}"], suffix, name)


class _Bare(Neuron):
    """A neuron that is its surrogate and nothing else."""

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return self.surrogate(x), v


@pytest.mark.parametrize(("kind", "strict"), [("spkjelly", False), ("superspike", True)])
def test_surrogate(
    fs_surrogate: Arrays, kind: str, strict: bool, backend: str, suffix: str
) -> None:
    surrogate = FastSigmoid(float(fs_surrogate["scale"]), strict=strict)
    neuron = _Bare(surrogate=surrogate, backend=backend)  # type: ignore[arg-type]
    u = tensor(fs_surrogate["u_minus_theta"], DTYPES[suffix]).requires_grad_()
    spikes = neuron(u[None, None])[0, 0]
    assert_exact(spikes, fs_surrogate[f"{kind}_spike_{suffix}"], "spikes")
    spikes.sum().backward()
    assert u.grad is not None
    error = (u.grad - tensor(fs_surrogate[f"{kind}_grad_{suffix}"], u.dtype)).abs().max().item()
    assert error <= STATE[suffix]
