"""Learned delays equal a plain sum, run in pieces, and are found by their gradient."""

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.nn import Delay, DelayedLinear, Sequential


def plain(layer: Delay | DelayedLinear, x: Tensor) -> Tensor:
    """y_t as a sum over tau, written out."""
    D = layer.longest
    d = layer.delay.detach().clamp(0, D)
    if layer.training:
        g = torch.stack(
            [torch.exp(-((tau - d) ** 2) / (2 * layer.sigma**2)) for tau in range(D + 1)]
        )
        g = g / g.sum(0)
    else:
        g = torch.stack([(d.round() == tau).to(x.dtype) for tau in range(D + 1)])
    out = []
    for t in range(len(x)):
        past = [x[t - tau] if tau <= t else torch.zeros_like(x[0]) for tau in range(D + 1)]
        if isinstance(layer, Delay):
            shape = (1, -1, *[1] * (x.dim() - 3))
            out.append(sum(p * w.view(shape) for p, w in zip(past, g, strict=True)))
        else:
            y = sum(p @ (layer.weight * w).T for p, w in zip(past, g, strict=True))
            out.append(y + layer.bias)
    return torch.stack(out)


LAYERS = {
    "channel": (lambda: Delay(3, 4), (9, 2, 3)),
    "image": (lambda: Delay(3, 4), (9, 2, 3, 2, 2)),
    "synapse": (lambda: DelayedLinear(3, 5, 4), (9, 2, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_a_delay_equals_the_plain_sum_also_in_pieces(name: str, training: bool) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer = make().double().train(training)
    layer.delay.data.view(-1)[:2] = torch.tensor([-3.0, 9.0])  # out of range: as the bounds
    x = torch.randn(shape, dtype=torch.float64)
    y = layer(x)
    assert torch.allclose(y, plain(layer, x), rtol=1e-10, atol=1e-12)
    parts, state = [], None
    for piece in x.split([1, 6, 2]):
        part, state = layer(piece, state)
        parts.append(part)
    assert torch.allclose(torch.cat(parts), y, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_by_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer = make().double()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    names = [n for n, _ in layer.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in layer.parameters()]

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *values))


def test_a_delay_is_found_and_evaluation_agrees() -> None:
    """Behind channels delayed by 1, 5 and 8 steps, learned from both ends of the range."""
    torch.manual_seed(0)
    target = torch.tensor([1, 5, 8])
    x = (torch.rand(60, 16, 3) < 0.2).float()
    wanted = torch.stack([x[:, :, c].roll(int(d), 0) for c, d in enumerate(target)], 2)
    layer = Delay(3, 10, decay=0.98)
    layer.delay.data.copy_(torch.tensor([9.0, 0.0, 2.0]))
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(300):
        loss = (layer(x)[10:] - wanted[10:]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        layer.anneal()
    assert layer.sigma.item() == 0.5
    assert layer.delays().tolist() == target.tolist()
    assert torch.equal(layer.eval()(x)[10:], wanted[10:])


def test_a_network_with_delays_streams() -> None:
    torch.manual_seed(0)
    net = Sequential(Delay(6, 5), nn.Linear(6, 8), sl.LIF(), DelayedLinear(8, 4, 3), sl.LI()).eval()
    x, parts, state = torch.rand(12, 2, 6) * 4, [], None
    for piece in x.split(5):
        y, state = net(piece, state)
        parts.append(y)
    assert torch.allclose(torch.cat(parts), net(x), atol=1e-6)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="with C=3"):
        Delay(3, 4)(torch.zeros(2, 2, 4))
    with pytest.raises(ValueError, match="at least one time step"):
        Delay(3, 0)
    with pytest.raises(ValueError, match=r"expected at least 0\.5"):
        DelayedLinear(3, 2, 4, sigma=0.1)
    with pytest.raises(ValueError, match="got a state of shape"):
        Delay(3, 4)(torch.zeros(2, 2, 3), (torch.zeros(3, 2, 3),))
