"""Ordinary layers inside chains, sparse and dense: the same values and gradients, whoever follows
what is done to the tensors."""

from collections.abc import Iterator
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.synapses import sparse
from spikeloom.synapses.functional import conv1d, conv2d, linear, max_pool2d
from spikeloom.synapses.switch import Work, choose, recording


@pytest.fixture(autouse=True)
def everything_sparse() -> Iterator[None]:
    torch.manual_seed(0)
    with sparse("on"):
        yield


def network(dtype: torch.dtype = torch.float64) -> sl.nn.Sequential:
    return sl.nn.Sequential(
        *(nn.Conv2d(2, 16, 3, padding=1), sl.LIF(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 24, (3, 2), stride=(1, 2), groups=2), sl.LIF(), nn.Flatten()),
        *(sl.nn.Dropout(), nn.Linear(24 * 2 * 2, 30), sl.LIF(), nn.Linear(30, 5)),
    ).to(dtype)


def frames(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.poisson(torch.full((4, 3, 2, 8, 8), 0.3)).to(dtype)


def results(net: sl.nn.Sequential, x: Tensor) -> list[Tensor]:
    torch.manual_seed(1)
    x = x.clone().requires_grad_()
    y = net(x)
    loss = y.square().mean()
    return [y, *torch.autograd.grad(loss, [x, *net.parameters()])]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_network_answers_and_learns_as_a_dense_one(layout: torch.memory_format) -> None:
    net = network()
    for layer in net:
        if isinstance(layer, nn.Conv2d):
            layer.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    x = frames()
    with recording() as decisions:
        ours = results(net, x)
    assert [d.kind for d in decisions] == ["conv", "conv", "linear", "linear"]
    assert {(d.forward, d.gradient) for d in decisions} == {("sparse", "sparse")}
    with sparse("off"):
        dense = results(net, x)
    for a, b in zip(ours, dense, strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-13)
        assert a.stride() == b.stride()


def test_the_gradient_of_a_gradient_is_torchs() -> None:
    x = (torch.rand(2, 4, 6, 6, dtype=torch.float64) < 0.4).double().requires_grad_()
    w = torch.randn(3, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    v = torch.randn(5, 3 * 4 * 4, dtype=torch.float64, requires_grad=True)

    def twice(run: bool) -> list[Tensor]:
        conv, product = (conv2d, linear) if run else (F.conv2d, F.linear)
        y = product(conv(x, w).flatten(1), v)
        first = torch.autograd.grad(y.square().sum(), [x, w, v], create_graph=True)
        penalty = sum((g.square().sum() for g in first), torch.zeros(()))
        return list(torch.autograd.grad(penalty, [x, w, v]))

    for a, b in zip(twice(True), twice(False), strict=True):
        assert torch.allclose(a, b, rtol=1e-10)


@pytest.mark.parametrize("window", [2, (2, 3), 3])
def test_max_pooling_is_torchs_to_the_bit(window: int | tuple[int, int]) -> None:
    x = (torch.rand(3, 18, 7, 8) < 0.3).float() * torch.randint(1, 4, (3, 18, 7, 8))
    x[0, 0, 0, 0] = torch.nan
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    ours, theirs = max_pool2d(x, window), F.max_pool2d(x, window)
    assert ours.grad_fn is not None and "MaxPool" in ours.grad_fn.name() + str(type(ours.grad_fn))
    assert torch.equal(ours.nan_to_num(), theirs.nan_to_num())
    g = torch.randn_like(ours)
    (a,) = torch.autograd.grad(ours, x, g, create_graph=True)
    (b,) = torch.autograd.grad(theirs, x, g)
    assert torch.equal(a, b)
    g.requires_grad_()
    (a,) = torch.autograd.grad(max_pool2d(x, window), x, g, create_graph=True)
    (again,) = torch.autograd.grad(a.sum(), g)
    assert torch.equal(again, torch.ones_like(again))


def test_lines_are_convolved_too() -> None:
    x = torch.poisson(torch.full((3, 4, 20), 0.2))
    layer = nn.Conv1d(4, 8, 5, stride=2, padding=2)
    ours = conv1d(x, layer.weight, layer.bias, 2, 2)
    assert torch.allclose(ours, layer(x), atol=1e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_paddings_with_a_name(padding: str) -> None:
    x, w = torch.poisson(torch.full((2, 3, 9, 9), 0.2)), torch.randn(4, 3, 3, 5)
    assert torch.allclose(conv2d(x, w, padding=padding), F.conv2d(x, w, padding=padding), atol=1e-5)


def test_transformations_see_operators_that_they_know() -> None:
    w = torch.randn(5, 12)
    x = torch.poisson(torch.full((4, 3, 12), 0.3))
    assert torch.allclose(torch.vmap(lambda row: linear(row, w))(x), x @ w.t(), atol=1e-5)
    grad = torch.func.grad(lambda weight: linear(x, weight).square().sum())(w)
    exact = torch.autograd.grad(F.linear(x, w.requires_grad_()).square().sum(), w)[0]
    assert torch.allclose(grad, exact, atol=1e-4)
    layers = sl.nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 3))
    frame = frames(torch.float32)
    compiled = torch.compile(layers, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(frame), layers(frame), atol=1e-5)
    exported = torch.export.export(layers, (frame,))
    assert torch.allclose(exported.module()(frame), layers(frame), atol=1e-5)


def test_autocast_casts_as_for_torchs_products() -> None:
    layers = sl.nn.Sequential(nn.Conv2d(2, 16, 3), nn.Flatten(), nn.Linear(16 * 6 * 6, 3))
    x = frames(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        ours = layers(x)
        with sparse("off"):
            dense = layers(x)
    ours.sum().backward()
    assert ours.dtype == dense.dtype == torch.bfloat16
    assert torch.allclose(ours.float(), dense.float(), rtol=2e-2, atol=2e-2)


def test_hooks_and_parametrisations_work() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(12, 5))
    seen: list[Tensor] = []
    layer.register_forward_hook(lambda module, args, output: seen.append(output))  # pyright: ignore[reportArgumentType]
    x = torch.poisson(torch.full((2, 3, 12), 0.3))
    y = sl.nn.Sequential(layer)(x)
    y.sum().backward()
    assert len(seen) == 1 and torch.equal(seen[0].view_as(y), y)
    assert all(p.grad is not None for p in layer.parameters())


def test_wrong_shapes_get_torchs_own_words() -> None:
    with pytest.raises(RuntimeError, match="expected input"):
        conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(4, 2, 3, 3))
    with pytest.raises(RuntimeError, match=r"weight should have at least|expected"):
        conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(4))
    with pytest.raises(RuntimeError, match="stride"):
        conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(4, 3, 3, 3), stride=(1, 1, 1))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        linear(torch.zeros(2, 3), torch.zeros(4, 2))


def test_explain_says_what_ran_and_leaves_the_network_alone() -> None:
    net = network(torch.float32)
    text = str(sl.explain(net, frames(torch.float32) * 0 + 1))
    assert "100.0% of 12x2x8x8 active: switched on" in text
    assert not any(p.grad is not None for p in net.parameters())
    with sparse("off"):
        rows = {row[0]: row for row in sl.explain(net, frames(torch.float32))}
    assert rows["3"][2:] == ("dense", "12x16x4x4: switched off")


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sparse\('maybe'\): expected 'auto', 'on', or 'off'"):
        sparse("maybe")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_the_switch_goes_from_sparse_to_dense_once(kind: Literal["conv", "linear"]) -> None:
    work = Work(kind, 10**6, 9.0, 128, 10**6, 9 * 128 * 10**6, 9 * 128 * 128, torch.float32)
    chosen = [choose(work, active, "auto", True) for active in range(0, 10**6 + 1, 10**4)]
    assert chosen[0] == (True, True) and chosen[-1] == (False, False)
    for part in zip(*chosen, strict=True):
        assert list(part) == sorted(part, reverse=True)
