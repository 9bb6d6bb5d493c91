"""Monitors hold no more than they promise, and live rates have the gradients of a penalty."""

import pytest
import torch

import spikeloom as sl
from spikeloom.analysis import FiringRates, LiveRates, Monitor


def network(backend: str = "auto") -> torch.nn.Module:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(6, 8), sl.PLIF(backend=backend), torch.nn.Linear(8, 3)]
    return sl.nn.Sequential(*layers, sl.LIF(backend=backend))


def inputs(seed: int) -> torch.Tensor:
    return 3 * torch.rand(5, 4, 6, generator=torch.Generator().manual_seed(seed))


def test_a_monitor_sums_bins_and_keeps_the_last() -> None:
    net = network()
    with torch.no_grad(), Monitor(net, of=["spikes", "v"], last=6, bins=10) as seen:
        outputs = [net(inputs(seed)) for seed in range(3)]
    potentials = [net[1].run(net[0](inputs(seed)), record=("v",)).records["v"] for seed in range(3)]
    course, spikes = seen["1", "v"], seen["3"]
    whole = torch.cat(potentials, 1).detach().double()
    assert course.steps == 60 and seen.layers() == ["1", "3"]
    torch.testing.assert_close(course.mean, whole.mean((0, 1)))
    torch.testing.assert_close(course.deviation, whole.std((0, 1), correction=0))
    assert course.last is not None and spikes.last is not None
    assert torch.equal(spikes.last, torch.cat(outputs, 1)[:, -6:])
    torch.testing.assert_close(course.last, whole[:, -6:].float())
    assert course.histogram is not None and course.histogram.sum() == whole.numel()
    counts = torch.histogram(whole.clamp(-1, 2 - 1e-9).float().flatten(), course.edges).hist
    assert (counts - course.histogram).abs().sum() <= 4  # a value on an edge may go either way


def test_a_monitor_leaves_the_pass_as_it_is_and_takes_no_more_memory() -> None:
    net = network()
    x = inputs(0).requires_grad_()
    plain = torch.autograd.grad(net(x).sum(), x)[0]
    with Monitor(net, of=["v"], layers=["1"], last=2) as seen:
        for _ in range(5):
            watched = torch.autograd.grad(net(x).sum(), x)[0]
    assert torch.equal(plain, watched)
    assert seen["1", "v"].last.shape == (5, 2, 8) and seen["1", "v"].mean.shape == (8,)


def test_a_monitor_says_what_there_is() -> None:
    with pytest.raises(ValueError, match="no neuron layer '2': there are 1, 3"):
        Monitor(network(), layers=["2"])
    with pytest.raises(ValueError, match="1 has no 'u': it has spikes, v"):
        Monitor(network(), of=["u"])
    with pytest.raises(ValueError, match="has not run"):
        _ = Monitor(network())["1"].mean


def gradients(backend: str, dtype: torch.dtype = torch.float32) -> tuple[float, list[torch.Tensor]]:
    net = network(backend).to(dtype)
    with LiveRates(net) as rates:
        net(inputs(0).to(dtype))
        net(inputs(1).to(dtype))
    penalty = rates.per_layer()["1"].square() + rates.mean()
    return penalty.item(), list(torch.autograd.grad(penalty, list(net.parameters())))


def test_a_penalty_on_rates_has_the_same_gradients_compiled_and_eager() -> None:
    value, compiled = gradients("cpu")
    exact_value, exact = gradients("eager", torch.float64)
    assert value == pytest.approx(exact_value, abs=1e-6)
    for got, want in zip(compiled, exact, strict=True):
        assert want.any()
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-6)


def test_live_rates_are_the_rates_that_are_counted_and_a_penalty_lowers_them() -> None:
    net = network()
    with torch.no_grad(), FiringRates(net) as counted, LiveRates(net) as live:
        net(inputs(0))
    assert {k: v.item() for k, v in live.per_layer().items()} == pytest.approx(counted.per_layer())
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(30):
        with LiveRates(net) as rates:
            net(inputs(0))
        optimizer.zero_grad()
        rates.mean().backward()
        optimizer.step()
    assert rates.mean() < 0.5 * sum(live.per_layer().values()) / 2
    with pytest.raises(ValueError, match="no neuron layer has run"):
        LiveRates(net).mean()


class Loop(torch.nn.Module):
    """A loop over time of one's own: the neuron is called step by step, with its state."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.fire = torch.nn.Linear(6, 8), sl.PLIF()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state, out = None, []
        for step in x:
            spikes, state = self.fire(self.map(step)[None], state)
            out.append(spikes)
        return torch.cat(out)


def test_measures_work_for_a_loop_over_time_of_ones_own() -> None:
    net, x = Loop(), inputs(0)
    with (
        torch.no_grad(),
        FiringRates(net) as rates,
        LiveRates(net) as live,
        Monitor(net, of=["spikes", "v"]) as seen,
        sl.analysis.SynapticOperations(net) as work,
    ):
        output = net(x)
    rate = output.mean().item()
    assert rates.per_layer()["fire"] == pytest.approx(rate)
    assert live.mean().item() == pytest.approx(rate)
    assert seen["fire"].mean.mean().item() == pytest.approx(rate)
    assert work.per_sample().samples == 4 and work.per_sample().multiplies == 5 * 6 * 8
    (trace,) = sl.analysis.trace(net, x, 2)
    assert torch.equal(trace.spikes, output[:, 2] != 0)
    with torch.no_grad():
        again, _ = net.fire.run(net.map(x), None, record=("v",)).records["v"].mean((0, 1)), 0
    torch.testing.assert_close(seen["fire", "v"].mean, again.double())
