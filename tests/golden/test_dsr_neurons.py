"""The neurons of DSR, their representations, clamp gradients, and thresholds equal the published
code; so does a whole block."""

import numpy as np
import pytest
import torch
from golden_dsr import Arrays, cases, neuron, sequence
from torch import Tensor

from spikeloom.compiler.dispatch import available_backends
from spikeloom.methods.dsr.representation import (
    IMAGENET_IF_SCALE,
    Represented,
)
from spikeloom.methods.dsr.resnet import Block

# Every case has constants of its own, and each set is compiled: what the warning warns of.
pytestmark = pytest.mark.filterwarnings("ignore:.*different sets of constants")

DTYPES = {"f64": torch.float64, "f32": torch.float32}
# README: (rtol, atol) of values, and of the thresholds' gradient (summation order)
VALUES = {"f64": (1e-12, 1e-13), "f32": (2e-6, 1e-6)}
THRESHOLD = {"f64": (1e-12, 1e-13), "f32": (1e-5, 2e-6)}


@pytest.fixture(params=[name for name in available_backends() if name in ("eager", "cpu")])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=DTYPES)
def suffix(request: pytest.FixtureRequest) -> str:
    return request.param


def _close(actual: Tensor, expected: np.ndarray, tolerance: tuple[float, float], what: str) -> None:
    np.testing.assert_allclose(
        actual.detach().double().numpy().reshape(expected.shape),
        np.asarray(expected, np.float64),
        *tolerance,
        err_msg=what,
    )


def _is_lif(arrays: Arrays, case: str, end: str) -> bool:
    """Spikes are as high as the threshold in IF, and 1 / delta_t times that in LIF."""
    height = np.abs(arrays[f"{case}out{end}"]).max()
    return not np.isclose(height, arrays[f"{case}Vth_after{end}"], rtol=1e-5)


def _weighted(layer: Represented, x: Tensor) -> Tensor:
    weights = x.new_tensor(layer.weights(len(x)))
    return torch.tensordot(weights, x, 1)


def _check(
    arrays: Arrays, case: str, end: str, layer: Represented, values: tuple, threshold: tuple
) -> None:
    T, dtype = int(arrays[f"{case}T"]), layer.threshold.dtype
    x = sequence(arrays[f"{case}x"], T, dtype).requires_grad_()
    g = sequence(arrays[f"{case}g"], T, dtype)
    out = layer(x)
    golden = arrays[f"{case}out{end}"]
    assert np.array_equal((out != 0).numpy().reshape(golden.shape), golden != 0), "spikes"
    _close(out, golden, values, "output")
    (out * g).sum().backward()
    assert x.grad is not None and layer.threshold.grad is not None
    _close(x.grad, arrays[f"{case}grad_x{end}"], values, "gradient of x")
    _close(layer.threshold.grad, arrays[f"{case}grad_Vth{end}"], threshold, "gradient of threshold")
    for name, tensor in (("rep_in", x), ("rep_out", out), ("rep_grad", g)):
        _close(_weighted(layer, tensor), arrays[f"{case}{name}{end}"], values, name)
    (rate,) = (layer(x.detach()).count_nonzero().double() / x.numel(),)
    _close(rate, arrays[f"{case}firing_rate{end}"], (1e-6, 0), "firing rate")
    layer.apply_bound()
    _close(layer.threshold, arrays[f"{case}Vth_after{end}"], values, "threshold")


def test_neurons(dsr_neuron: Arrays, backend: str, suffix: str) -> None:
    for case in cases(dsr_neuron, "margin"):
        lif = _is_lif(dsr_neuron, case, f"_{suffix}")
        layer = neuron(dsr_neuron, case, lif, backend, DTYPES[suffix])
        _check(dsr_neuron, case, f"_{suffix}", layer, VALUES[suffix], THRESHOLD[suffix])


def test_neurons_of_the_imagenet_code(dsr_imagenet: Arrays, backend: str, suffix: str) -> None:
    for case in cases(dsr_imagenet, "margin"):
        lif = _is_lif(dsr_imagenet, case, f"_{suffix}")
        layer = neuron(dsr_imagenet, case, lif, backend, DTYPES[suffix])
        if not lif:
            layer.threshold_scale = IMAGENET_IF_SCALE
        _check(dsr_imagenet, case, f"_{suffix}", layer, VALUES[suffix], THRESHOLD[suffix])


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=list(DTYPES))
def test_edges(dsr_edges: Arrays, backend: str, dtype: torch.dtype) -> None:
    """Ties at the threshold, r exactly on the edges of the clamp, thresholds at their bound."""
    found = cases(dsr_edges, "Vth_after")
    assert any("tie" in case for case in found) and any("bound" in case for case in found)
    for case in found:
        lif = f"{case}delta_t" in dsr_edges and _is_lif(dsr_edges, case, "")
        layer = neuron(dsr_edges, case, lif, backend, dtype)
        exact = "tie" in case
        _check(dsr_edges, case, "", layer, (0, 0) if exact else (1e-6, 1e-6), (1e-6, 1e-6))


BLOCK = {"f64": (1e-9, 1e-11), "f32": (2e-4, 2e-5)}


def _make_block(arrays: Arrays, case: str, backend: str, dtype: torch.dtype) -> Block:
    lif = bool(arrays[f"{case}is_lif"])
    outputs, inputs = arrays[f"{case}init.conv1.weight"].shape[:2]
    block = Block(
        inputs,
        outputs,
        stride=int(arrays[f"{case}stride"]),
        activation=lambda: neuron(arrays, case, lif, backend, dtype),
    ).to(dtype)
    state = block.state_dict()
    for name in [name for name in arrays if name.startswith(f"{case}init.")]:
        ours = name.removeprefix(f"{case}init.").replace("Vth", "threshold")
        if not ours.endswith("threshold"):  # set in full precision; the stored ones are float32
            state[ours].copy_(torch.from_numpy(arrays[name]))
    return block.train(bool(arrays[f"{case}train"]))


def _count_spikes(block: Block) -> dict[str, int]:
    """Filled by the next forward pass."""
    spikes: dict[str, int] = {}
    for name, module in block.named_modules():
        if isinstance(module, Represented):
            module.register_forward_hook(
                lambda _, __, out, name=name: spikes.update({name: int(out.count_nonzero())})
            )
    return spikes


def test_block(dsr_block: Arrays, backend: str, suffix: str) -> None:
    end, dtype = f"_{suffix}", DTYPES[suffix]
    for case in cases(dsr_block, "is_lif"):
        block = _make_block(dsr_block, case, backend, dtype)
        spikes = _count_spikes(block)
        T = int(dsr_block[f"{case}T"])
        x = sequence(dsr_block[f"{case}x"], T, dtype).requires_grad_()
        out = block(x)
        (out * sequence(dsr_block[f"{case}g"], T, dtype)).sum().backward()
        for name in ("relu1", "relu2"):
            assert spikes[name] == int(dsr_block[f"{case}spikes.{name}{end}"]), name
        _close(out, dsr_block[f"{case}out{end}"], BLOCK[suffix], "output")
        assert x.grad is not None
        _close(x.grad, dsr_block[f"{case}grad_x{end}"], BLOCK[suffix], "gradient of x")
        for name, value in block.named_parameters():
            theirs = f"{case}grad.{name.replace('threshold', 'Vth')}{end}"
            assert value.grad is not None
            _close(value.grad, dsr_block[theirs], BLOCK[suffix], theirs)
        for theirs in [name for name in dsr_block if name.startswith(f"{case}after.")]:
            if theirs.endswith(end):
                ours = theirs.removeprefix(f"{case}after.").removesuffix(end)
                _close(block.state_dict()[ours], dsr_block[theirs], BLOCK[suffix], theirs)
