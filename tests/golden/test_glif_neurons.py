"""GLIF in all its forms, its surrogate, and its initial values equal the published code."""

import numpy as np
import pytest
import torch
from golden_compare import assert_exact
from golden_glif import RAW, Arrays, cases, close, column, neuron, precisions, tensor

from spikeloom.compiler.dispatch import available_backends
from spikeloom.neurons import LIF, Neuron, Rectangle
from spikeloom.neurons.gated import GLIF

# Every form is compiled, and the warning about many forms is for programs that do so by mistake.
pytestmark = pytest.mark.filterwarnings("ignore:.*different sets of constants")

BACKENDS = [name for name in available_backends() if name in ("eager", "cpu")]
VALUES = {torch.float64: 1e-12, torch.float32: 2e-6}
GRADIENTS = {torch.float64: (1e-10, 1e-12), torch.float32: (1e-5, 5e-6)}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


def _gradients(layer: Neuron, case: Arrays, precision: str, dtype: torch.dtype, what: str) -> None:
    """Spikes, potentials, and every gradient of one case in one precision."""
    x = tensor(case["x"], dtype).requires_grad_()
    run = layer.run(x, record=("h",))
    assert_exact(run.spikes, case["spikes"], f"{what} spikes")
    close(run.records["h"], case[f"{precision}.u"], 0, VALUES[dtype], f"{what} u")

    layer(x).backward(tensor(case["grad_out"], dtype))
    rtol, atol = GRADIENTS[dtype]
    assert x.grad is not None
    close(x.grad, case[f"{precision}.grad_x"], rtol, atol, f"{what} grad x")
    for name, parameter in layer.named_parameters():
        golden = case.get(f"{precision}.grad_{name}")
        # Frozen parameters have no gradient in either program.
        assert (parameter.grad is None) == (golden is None), f"{what} gradient of {name}"
        if parameter.grad is not None and golden is not None:
            close(parameter.grad, golden, rtol, atol, f"{what} grad {name}")
    expected = {key.partition("grad_")[2] for key in case if key.startswith(f"{precision}.grad_")}
    assert expected <= {"x", *dict(layer.named_parameters())}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_gated_neurons(glif_neuron: Arrays, backend: str, dtype: torch.dtype) -> None:
    found = [name for name, case in cases(glif_neuron).items() if "conduct" in case]
    assert found
    for name in found:
        case = cases(glif_neuron)[name]
        what = f"{name} {dtype}"
        _gradients(neuron(case, backend, dtype), case, column(case, dtype), dtype, what)


def test_vanilla_lif(glif_neuron: Arrays, backend: str) -> None:
    found = [case for case in cases(glif_neuron).values() if "conduct" not in case]
    for case in found:
        for precision, dtype in precisions(case):
            layer = LIF(
                1 / (1 - float(case["tau"])),
                v_threshold=float(case["Vth"]),
                decay_input=False,
                surrogate=Rectangle(strict=True),
                backend=backend,  # type: ignore[arg-type]
            )
            _gradients(layer, case, precision, dtype, precision)


class _Bare(Neuron):
    """A neuron that is its surrogate and nothing else, to run it through either backend."""

    def step(self, x: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.surrogate(x), v


def test_surrogate(glif_surrogate: Arrays, backend: str) -> None:
    for precision, dtype in precisions(glif_surrogate):
        v = tensor(glif_surrogate[f"{precision}.v"], dtype).requires_grad_()
        layer = _Bare(surrogate=Rectangle(strict=True), backend=backend)  # type: ignore[arg-type]
        spikes = layer(v[None, None])[0, 0]
        spikes.backward(torch.ones_like(spikes))
        assert_exact(spikes, glif_surrogate[f"{precision}.spike"], "spikes")
        assert v.grad is not None
        assert_exact(v.grad, glif_surrogate[f"{precision}.grad"], "gradient")


def test_binary_gates(glif_surrogate: Arrays) -> None:
    for precision, dtype in precisions(glif_surrogate):
        p = tensor(glif_surrogate[f"{precision}.gate_p"], dtype)
        inside = (p > 0) & (p < 1)  # the ends have no finite raw value
        layer = GLIF(int(inside.sum()), gates="hard").to(dtype)
        layer.alpha.data = torch.logit(p[inside])
        # A raw value is rounded, and may come back on the other side of exactly one half.
        p = layer.alpha.detach().sigmoid()
        gate = layer.gate_values()[0]
        gate.backward(torch.ones_like(gate))
        golden = glif_surrogate[f"{precision}.gate_bin"][inside.numpy()]
        sure = (p - 0.5).abs() > 1e-6
        assert_exact(gate[sure], golden[sure.numpy()], "gates")
        assert torch.equal(gate.detach(), (p > 0.5).to(dtype))
        assert layer.alpha.grad is not None
        slope = glif_surrogate[f"{precision}.gate_grad"][inside.numpy()]
        close(layer.alpha.grad / (p * (1 - p)), slope, 1e-5, 0, "gradient with respect to sg(raw)")


def _all(start: float) -> tuple[float, float, float]:
    return float(start), float(start), float(start)


def test_initial_values(glif_init: Arrays) -> None:
    for start, channel_wise, layer_wise in zip(
        glif_init["gate"], glif_init["cw_raw"], glif_init["lw_raw"], strict=True
    ):
        assert GLIF(1, gate=_all(start)).alpha.item() == pytest.approx(channel_wise, abs=1e-6)
        # The authors' layer-wise class has the opposite sign.
        assert GLIF(None, gate=_all(1 - start)).alpha.item() == pytest.approx(layer_wise, abs=1e-6)


def test_default_initial_values(glif_init: Arrays) -> None:
    defaults = {name: case for name, case in cases(glif_init).items() if "conduct" in case}
    assert defaults
    for name, case in defaults.items():
        channel_wise = case["alpha"].ndim == 1
        layer = GLIF(
            len(case["alpha"]) if channel_wise else None,
            len(case["conduct"]),
            gate=(0.6, 0.8, 0.6) if channel_wise else (0.4, 0.2, 0.4),
            time_wise=case["tau"].ndim > case["alpha"].ndim,
        )
        for parameter in RAW:
            close(getattr(layer, parameter), case[parameter], 0, 1e-6, f"{name} {parameter}")


def test_golden_gates_cover_every_mode(glif_neuron: Arrays) -> None:
    """The mode is found from the arrays: see that what is found is told apart at all."""
    for case in cases(glif_neuron).values():
        if "alpha" not in case:
            continue
        found = neuron(case, "eager", torch.float64)
        assert isinstance(found, GLIF)
        learned = any(key.endswith("grad_alpha") for key in case)
        assert found.gates.startswith("static") != learned
        assert np.isfinite(case["f64.u"]).all()
