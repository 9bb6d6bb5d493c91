"""The input gradient of 3x3 convolutions against torch's in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.synapses import sparse, winograd
from spikeloom.synapses.conv import Geometry


def exact(g: Tensor, x: Tensor, w: Tensor, padding: tuple[int, int]) -> Tensor:
    mask, one = [True, False, False], (1, 1)
    return torch.ops.aten.convolution_backward(
        g.double(), x.double(), w.double(), None, one, padding, one, False, [0, 0], 1, mask
    )[0]


AXES = (st.integers(0, 2), st.integers(3, 9))
"""Of the padding and of the input."""


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([torch.float32, torch.float64]), *[st.tuples(a, a) for a in AXES],
    st.integers(1, 20), st.booleans(), st.integers(0, 10**6),
)  # fmt: skip
def test_it_is_torchs(
    dtype: torch.dtype,
    padding: tuple[int, int],
    size: tuple[int, int],
    samples: int,
    last: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    features, channels = 16 * (1 + seed % 5), 32 * (1 + seed % 3)
    layout = torch.channels_last if last else torch.contiguous_format
    w = torch.randn(features, channels, 3, 3, dtype=dtype).to(memory_format=layout)
    x = torch.zeros(samples, channels, *size, dtype=dtype)
    geometry = Geometry((3, 3), (1, 1), padding, (1, 1), 1)
    g = torch.randn(samples, features, *geometry.output(*size), dtype=dtype)
    g = g.to(memory_format=layout)
    ours = winograd.input_gradient(g, w, geometry, *size)
    scale = exact(g.abs(), x, w.abs(), padding)
    error = ((ours.double() - exact(g, x, w, padding)).abs() / scale.clamp(min=1e-3)).max()
    assert float(error) < {torch.float32: 2e-6, torch.float64: 4e-15}[dtype]
    torch.set_num_threads(3)
    try:
        again = winograd.input_gradient(g, w, geometry, *size)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(ours, again)


def test_a_network_takes_it_and_learns_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = sl.nn.Sequential(
        *(nn.Conv2d(2, 64, 3, padding=1), sl.LIF(), nn.Conv2d(64, 64, 3, padding=1), sl.LIF()),
    ).to(torch.float64)
    net = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    x = torch.rand(4, 4, 2, 16, 16, dtype=torch.float64)
    calls = []
    inner = winograd.input_gradient
    monkeypatch.setattr(winograd, "input_gradient", lambda *a: calls.append(1) or inner(*a))

    def gradients() -> list[Tensor]:
        return list(torch.autograd.grad(net(x).square().mean(), list(net.parameters())))

    with sparse("on"):
        ours = gradients()
    assert calls
    with sparse("off"):
        dense = gradients()
    assert len(calls) == 1
    for a, b in zip(ours, dense, strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-15)


def test_it_is_left_to_torch_where_it_would_not_pay() -> None:
    def taken(samples: int, features: int, channels: int, size: int, stride: int = 1) -> bool:
        geometry = Geometry((3, 3), (stride, stride), (1, 1), (1, 1), 1)
        grad = torch.empty(samples, features, *geometry.output(size, size))
        return winograd.takes(grad, torch.empty(features, channels, 3, 3), geometry)

    assert taken(128, 128, 128, 14)
    assert not taken(128, 128, 128, 14, stride=2)
    assert not taken(16, 512, 512, 1)  # more zeros than pixels
    assert not taken(1, 512, 512, 4)  # the weights are transformed for four tiles
    assert not taken(128, 128, 3, 14)
