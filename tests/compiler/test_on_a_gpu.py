"""Neurons on a real GPU; without one these are skipped, and `benchmarks/gpu.sh` runs them."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from zoo import POOL, random_values

from spikeloom.compiler import explain
from spikeloom.neurons import GLIF, LIF, PLIF, AdLIF, Neuron

pytestmark = pytest.mark.gpu

SHAPES = [(1, 3, 5, 4, 4), (4, 8, 64, 32, 32), (16, 4, 64, 14, 14), (33, 4, 6, 7), (100, 64, 256)]
LARGE = (16, 64, 128, 32, 32)


def _pass(neuron: Neuron, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    leaf = x.clone().requires_grad_()
    neuron.zero_grad()
    spikes = neuron(leaf)
    spikes.backward(g)
    assert leaf.grad is not None
    return spikes.detach(), leaf.grad, [p.grad for p in neuron.parameters() if p.grad is not None]


def _make(name: str, channels: int) -> Neuron:
    neurons = {
        "LIF": LIF(),
        "PLIF": PLIF(),
        "PLIF per channel": PLIF(shape=(channels,)),
        "GLIF": GLIF(channels),
        "AdLIF": AdLIF(5.0, shape=(channels,)),
    }
    return neurons[name]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["LIF", "PLIF", "PLIF per channel", "GLIF", "AdLIF"])
def test_agrees_with_float64_on_the_cpu(
    name: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    reference = _make(name, shape[2])
    x, g = (random_values(shape, seed).to(dtype) for seed in (1, 2))
    neuron = deepcopy(reference).cuda()
    neuron.backend = "gpu"
    spikes, gx, gradients = _pass(neuron, x.cuda(), g.cuda())
    reference.backend = "eager"
    exact_spikes, exact_gx, exact_gradients = _pass(reference.double(), x.double(), g.double())
    # a potential within rounding of the threshold: those neurons have two histories
    same = (spikes.cpu().double() == exact_spikes).all(0)
    assert same.double().mean() > 0.999
    size = exact_gx.abs().max()
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    assert ((gx.cpu().double() - exact_gx).abs() * same).max() <= tolerance * size
    for got, exact in zip(gradients, exact_gradients, strict=True):
        assert (got.cpu().double() - exact).abs().max() <= 1e-2 * exact.abs().max() + 1e-6


@pytest.mark.parametrize("name", POOL)
def test_spikes_equal_those_of_eager_float32(name: str) -> None:
    shape = (9, 4, 6, 5, 8)
    neuron = POOL[name].make(shape).cuda()
    x = random_values(shape, 3, ties=True).float().cuda()
    neuron.backend = "gpu"
    spikes = neuron(x)
    neuron.backend = "eager"
    assert torch.equal(spikes, neuron(x))


def test_the_same_bits_twice() -> None:
    x, g = (random_values((16, 16, 64, 14, 14), seed).float().cuda() for seed in (1, 2))
    neuron = GLIF(64, backend="gpu").cuda()
    first, second = _pass(neuron, x, g), _pass(neuron, x, g)
    assert torch.equal(first[1], second[1])
    assert all(torch.equal(a, b) for a, b in zip(first[2], second[2], strict=True))


def _net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 128), PLIF(), nn.Linear(128, 128), PLIF(shape=(128,)))


def test_autocast_keeps_the_kernel() -> None:
    net = _net().cuda()
    assert {row[2] for row in explain(net, "cuda", torch.bfloat16)} == {"gpu"}
    with torch.autocast("cuda", torch.bfloat16):
        spikes = net(torch.randn(4, 32, 64, device="cuda"))
    assert spikes.dtype == torch.bfloat16
    spikes.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_torch_compile_keeps_the_graph_whole() -> None:
    net = _net().cuda()
    x = torch.randn(4, 32, 64, device="cuda")
    compiled = torch.compile(net, fullgraph=True)
    compiled(x).sum().backward()
    gradients = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    net.zero_grad()
    net(x).sum().backward()
    for got, p in zip(gradients, net.parameters(), strict=True):
        torch.testing.assert_close(got, p.grad, rtol=1e-3, atol=1e-3)


def test_a_cuda_graph_replays_forward_and_backward() -> None:
    net = _net().cuda()
    x = torch.randn(4, 32, 64, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            net.zero_grad(set_to_none=True)
            net(x).sum().backward()
    torch.cuda.current_stream().wait_stream(stream)
    net.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = net(x)
        captured.sum().backward()
    x.copy_(torch.randn_like(x))
    graph.replay()
    torch.cuda.synchronize()
    replayed = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    spikes = captured.clone()
    net.zero_grad(set_to_none=True)
    again = net(x)
    again.sum().backward()
    assert torch.equal(spikes, again)
    for got, p in zip(replayed, net.parameters(), strict=True):
        torch.testing.assert_close(got, p.grad)


def test_activation_checkpointing() -> None:
    net = _net().cuda()
    x = torch.randn(4, 32, 64, device="cuda", requires_grad=True)
    checkpoint(net, x, use_reentrant=False).sum().backward()
    with_checkpoint = x.grad
    x.grad = None
    net(x).sum().backward()
    assert with_checkpoint is not None
    torch.testing.assert_close(with_checkpoint, x.grad)


def test_beyond_two_to_the_31st_elements() -> None:
    if torch.cuda.get_device_properties(0).total_memory < 40 << 30:
        pytest.skip("needs 40 GiB")
    steps = (1 << 31) // (1 << 26) + 2
    x = torch.zeros((steps, 1 << 26), dtype=torch.bfloat16, device="cuda")
    x[-1, -1] = 10.0
    spikes = LIF(backend="gpu")(x.unsqueeze(1))
    assert spikes[-1, 0, -1].item() == 1
    assert spikes.sum(dtype=torch.float64).item() == 1


def test_a_layer_larger_than_the_cache() -> None:
    neuron = PLIF(backend="gpu").cuda()
    x = torch.randn(LARGE, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    spikes = neuron(x)
    spikes.backward(torch.ones_like(spikes))
    assert x.grad is not None and x.grad.isfinite().all()
    eager = PLIF(backend="eager").cuda()
    assert torch.equal(spikes, eager(x))
