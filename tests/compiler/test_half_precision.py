"""bfloat16 and float16: the float32 kernel between a conversion in and one out."""

import pytest
import torch
from agreement import assert_same_bits
from torch import Tensor
from zoo import POOL, random_values

from spikeloom.neurons import PLIF

HALF = [torch.bfloat16, torch.float16]


def _pass(neuron: PLIF, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x = x.clone().requires_grad_()
    neuron.zero_grad()
    spikes, (v,) = neuron(x, neuron.initial_state(x))
    gx, gw = torch.autograd.grad((spikes, v), (x, neuron.w), (g, torch.ones_like(v)))
    return spikes.detach(), v.detach(), gx, gw


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("static", [False, True])
def test_half_precision_is_float32_inside(dtype: torch.dtype, static: bool) -> None:
    shape = (9, 3, 5, 41)
    neuron = POOL["plif per channel"].make(shape)
    x = random_values(shape, 1, ties=True).to(dtype)
    if static:
        x = x[:1].expand(shape)
    g = random_values(shape, 2).to(dtype)
    spikes, v, gx, gw = _pass(neuron, x, g)
    want_spikes, want_v, want_gx, want_gw = _pass(neuron, x.float(), g.float())
    assert_same_bits(spikes, want_spikes.to(dtype), "spikes")
    assert_same_bits(v, want_v, "final state")
    assert v.dtype == torch.float32
    assert_same_bits(gx, want_gx.to(dtype), "gradient of the input")
    torch.testing.assert_close(gw, want_gw, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", HALF)
def test_eager_has_the_same_meaning(dtype: torch.dtype) -> None:
    shape = (9, 3, 5, 41)
    neuron = POOL["plif per channel"].make(shape)
    x, g = random_values(shape, 3).to(dtype), random_values(shape, 4).to(dtype)
    compiled = _pass(neuron, x, g)
    neuron.backend = "eager"
    eager = _pass(neuron, x, g)
    assert_same_bits(compiled[0], eager[0], "spikes")
    assert_same_bits(compiled[1], eager[1], "final state")
    torch.testing.assert_close(compiled[2], eager[2], rtol=2 * torch.finfo(dtype).eps, atol=1e-7)
    torch.testing.assert_close(compiled[3], eager[3], rtol=1e-5, atol=1e-6)


def test_autocast_keeps_the_kernel_and_float32_coefs() -> None:
    shape = (9, 3, 5, 41)
    neuron = POOL["plif per channel"].make(shape)
    linear = torch.nn.Linear(41, 41)
    x = random_values(shape, 5).float()
    with torch.autocast("cpu", torch.bfloat16):
        current = linear(x)
        assert current.dtype == torch.bfloat16
        spikes = neuron(current)
        loss = spikes.float().sum()
    loss.backward()
    assert spikes.dtype == torch.bfloat16
    assert neuron.w.grad is not None and neuron.w.grad.dtype == torch.float32
    assert linear.weight.grad is not None and bool(linear.weight.grad.abs().sum() > 0)
    assert_same_bits(spikes, neuron(current.float()).bfloat16(), "spikes")


def test_a_module_in_bfloat16_computes_in_float32() -> None:
    """`net.bfloat16()` rounds the parameters; the arithmetic on them stays in float32."""
    shape = (5, 2, 5, 41)
    neuron = POOL["plif per channel"].make(shape).bfloat16()
    x = random_values(shape, 6).bfloat16().requires_grad_()
    neuron(x).sum().backward()
    eager = POOL["plif per channel"].make(shape).bfloat16()
    eager.backend = "eager"
    assert_same_bits(neuron(x), eager(x), "spikes")
    assert neuron.w.grad is not None and neuron.w.grad.dtype == torch.bfloat16
