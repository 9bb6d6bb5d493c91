"""PLIF, LIF, and the ATan surrogate equal the published code."""

import math

import numpy as np
import pytest
import torch
from golden_compare import assert_exact, assert_rel
from torch import Tensor

from spikeloom.compiler.dispatch import available_backends
from spikeloom.neurons import LIF, PLIF, ATan, Neuron, Surrogate

# Every file has constants of its own, and each set is compiled: what the warning warns of.
pytestmark = pytest.mark.filterwarnings("ignore:.*different sets of constants")

BACKENDS = [name for name in available_backends() if name in ("eager", "cpu")]
DTYPES = {"f64": torch.float64, "f32": torch.float32}
NEURON_TOLERANCE = {"f64": 1e-12, "f32": 3e-6}
SURROGATE_TOLERANCE = {"f64": 1e-13, "f32": 2e-6}

Arrays = dict[str, np.ndarray]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=DTYPES)
def suffix(request: pytest.FixtureRequest) -> str:
    """The dtype as the arrays name it."""
    return request.param


def _neuron(arrays: Arrays, detach_reset: bool, backend: str, dtype: torch.dtype) -> LIF | PLIF:
    kind = PLIF if arrays["is_plif"] else LIF
    v_reset = float(arrays["v_reset"])
    neuron = kind(
        float(arrays["init_tau"]),
        v_threshold=float(arrays["v_threshold"]),
        v_reset=None if math.isnan(v_reset) else v_reset,
        detach_reset=detach_reset,
        surrogate=ATan(float(arrays["alpha"]), learnable=bool(arrays["learn_alpha"])),
        backend=backend,  # type: ignore[arg-type]
    )
    return neuron.to(dtype)


def _tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(array).to(dtype)


@pytest.mark.parametrize("detach_reset", [False, True])
def test_spikes_potentials_and_gradients(
    plif_neuron: Arrays, detach_reset: bool, backend: str, suffix: str
) -> None:
    dtype, tolerance = DTYPES[suffix], NEURON_TOLERANCE[suffix]
    neuron = _neuron(plif_neuron, detach_reset, backend, dtype)
    x = _tensor(plif_neuron["x"], dtype).requires_grad_()

    spikes, (v,) = neuron(x, neuron.initial_state(x))
    assert_exact(spikes, plif_neuron["s"], "spikes")
    records = neuron.run(x, record=("h", "v")).records
    for name in ("h", "v"):
        assert_rel(records[name], plif_neuron[f"{name}_{suffix}"], tolerance, name)

    g_s, g_v = _tensor(plif_neuron["g_s"], dtype), _tensor(plif_neuron["g_v"], dtype)
    ((g_s * spikes).sum() + (g_v * v).sum()).backward()
    end = f"{suffix}_detach{int(detach_reset)}"
    assert x.grad is not None
    assert_rel(x.grad, plif_neuron[f"grad_x_{end}"], tolerance, "gradient of x")
    if isinstance(neuron, PLIF):
        assert_exact(neuron.w, plif_neuron[f"w_{suffix}"], "initial w")
        assert neuron.w.grad is not None
        assert_rel(neuron.w.grad, plif_neuron[f"grad_w_{end}"], tolerance, "gradient of w")
    if plif_neuron["learn_alpha"]:
        alpha = neuron.surrogate.alpha
        assert isinstance(alpha, Tensor) and alpha.grad is not None
        assert_rel(alpha.grad, plif_neuron[f"grad_alpha_{end}"], tolerance, "gradient of alpha")


class _Bare(Neuron):
    """A neuron that is its surrogate and nothing else, to run it through either backend."""

    def __init__(self, surrogate: Surrogate, backend: str) -> None:
        super().__init__(surrogate=surrogate, backend=backend)  # type: ignore[arg-type]

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return self.surrogate(x), v


@pytest.mark.parametrize("spiking", [True, False])
def test_surrogate(plif_surrogate: Arrays, spiking: bool, backend: str, suffix: str) -> None:
    dtype, tolerance = DTYPES[suffix], SURROGATE_TOLERANCE[suffix]
    surrogate = ATan(float(plif_surrogate["alpha"]), learnable=True, spiking=spiking)
    neuron = _Bare(surrogate, backend).to(dtype)
    x = _tensor(plif_surrogate["x"], dtype).requires_grad_()

    y = neuron(x[None, None])[0, 0]
    (y * _tensor(plif_surrogate["up"], dtype)).sum().backward()
    assert x.grad is not None
    if spiking:
        assert_exact(y, plif_surrogate["y"], "spikes")
        assert_rel(x.grad, plif_surrogate[f"grad_x_{suffix}"], tolerance, "gradient of x")
        assert isinstance(surrogate.alpha, Tensor) and surrogate.alpha.grad is not None
        golden = plif_surrogate[f"grad_alpha_{suffix}"]
        assert_rel(surrogate.alpha.grad, golden, tolerance, "gradient of alpha")
    else:
        assert_rel(y, plif_surrogate[f"primitive_{suffix}"], tolerance, "primitive")
        golden = plif_surrogate[f"primitive_grad_x_{suffix}"]
        assert_rel(x.grad, golden, tolerance, "gradient of the primitive")


def test_smooth_surrogate_still_spikes_in_evaluation(plif_surrogate: Arrays, backend: str) -> None:
    surrogate = ATan(float(plif_surrogate["alpha"]), spiking=False)
    neuron = _Bare(surrogate, backend).eval()
    x = torch.from_numpy(plif_surrogate["x"])
    assert_exact(neuron(x[None, None])[0, 0], plif_surrogate["y"], "spikes")
