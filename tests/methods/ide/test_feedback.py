"""What simulation and equilibrium promise, on small networks of every kind."""

import math
from itertools import pairwise

import pytest
import torch
from ide_nets import make_classifier, make_inputs
from torch import Tensor

from spikeloom.analysis.traces import trace
from spikeloom.methods.ide.feedback import ConvergenceWarning
from spikeloom.methods.ide.transforms import Masks


def _double(*arguments, **settings):
    return make_classifier(*arguments, **settings).double()


def _equilibrium(feedback, drive: Tensor, statistics: str) -> Tensor:
    rate = torch.zeros_like(feedback.simulate(drive.detach().expand(1, *drive.shape), Masks())[-1])
    for _ in range(300):
        rate = feedback.rate_map(rate, drive, Masks(), statistics)
    return rate


@pytest.mark.parametrize("neuron", ["if", "lif"])
def test_simulation_follows_the_equations(neuron: str) -> None:
    """Against the equations written out for one layer of linear maps."""
    net = _double("f400", neuron=neuron, leak=0.9, T=9).eval()
    feedback, x = net.feedback, make_inputs(net).double()
    with torch.no_grad():
        rate = feedback(x.flatten(1))
        current = feedback.input_transform(x.flatten(1), "running")
        weight = feedback.transforms[0].synapse.weight
        leak = 0.9 if neuron == "lif" else 1.0
        v, s, total = (torch.zeros_like(current) for _ in range(3))
        for _ in range(9):
            h = leak * v + s @ weight.T + current
            s = (h >= 2).double()
            v, total = h - 2 * s, leak * total + s
        weights = sum(leak**k for k in range(9))
    assert torch.allclose(rate, total / weights, atol=1e-12)
    assert 0 < rate.mean() < 1


def test_residual_of_the_rate_falls_with_the_time_steps() -> None:
    """Without a leak like 1 / T; with one down to a floor that the leak sets."""
    residuals = {}
    for neuron in ("if", "lif"):
        residuals[neuron] = []
        for time_steps in (5, 30, 300, 1000):
            net = _double("f400", T=time_steps, neuron=neuron, leak=0.95).eval()
            x = make_inputs(net, batch=8).double().flatten(1)
            with torch.no_grad():
                drive = net.feedback.input_transform(x, "running")
                rate = net.feedback(x)
                image = net.feedback.rate_map(rate, drive, Masks())
            residuals[neuron].append(((image - rate).norm() / rate.norm()).item())
    assert all(later < earlier for earlier, later in pairwise(residuals["if"]))
    assert residuals["if"][3] < residuals["if"][0] / 30
    assert residuals["lif"][3] > 2 * residuals["if"][3]


def test_gradient_equals_that_of_the_equilibrium(layers: str) -> None:
    """Finite differences of the loss at the true fixed point, in training mode."""
    net = _double(layers, solver="dense", T=2000 if layers == "f400" else 400, neuron="if").train()
    feedback, x = net.feedback, make_inputs(net).double()
    inputs = net.arrange(x)
    labels = torch.tensor([0, 1, 2])
    parameter = feedback.input_transform.norm.weight

    def loss_at_equilibrium() -> Tensor:
        transform = feedback.input_transform
        drive = transform.finish(transform.normalise(transform.synapse(inputs), "batch"))
        return net.loss(net.read_out(_equilibrium(feedback, drive, "batch")), labels)

    # The simulated rate stands for the fixed point: hand over the fixed point itself.
    with torch.no_grad():
        drive, _ = feedback.drive(inputs, Masks())
        resting = _equilibrium(feedback, drive, "batch")
    feedback.simulate = lambda *_: [resting] * len(feedback.neurons)
    net.loss(net(x), labels).backward()
    step = 1e-6
    for i in range(2):
        with torch.no_grad():
            parameter[i] += step
            above = loss_at_equilibrium()
            parameter[i] -= 2 * step
            below = loss_at_equilibrium()
            parameter[i] += step
        expected = ((above - below) / (2 * step)).item()
        assert parameter.grad[i].item() == pytest.approx(expected, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("events", [False, True])
def test_input_has_a_gradient(layers: str, events: bool) -> None:
    net = make_classifier(layers, events=events)
    x = make_inputs(net).requires_grad_()
    net(x).scores.square().sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.any()
    if events:  # the rate map sees the average over time only
        weights = x.grad.flatten(1).norm(dim=1)
        assert torch.allclose(weights[:-1] / weights[1:], torch.tensor(0.95).expand(5), rtol=1e-4)


@pytest.mark.parametrize("events", [False, True])
def test_running_statistics_move_once_and_inputs_stay(layers: str, events: bool) -> None:
    net = make_classifier(layers, events=events, quirks=())
    x = make_inputs(net)
    before = x.clone()
    net(x).scores.sum().backward()
    assert torch.equal(x, before)
    counts = [
        m.num_batches_tracked.item() for m in net.modules() if hasattr(m, "num_batches_tracked")
    ]
    assert counts and set(counts) == {1}


def test_published_event_average_does_not_touch_the_frames() -> None:
    net = make_classifier("f400", events=True, quirks=("event-mean",))
    x = make_inputs(net)
    before = x.clone()
    net(x)
    assert torch.equal(x, before)


def test_dropout_is_one_mask_per_pass() -> None:
    net = make_classifier("f64c5", dropout=0.5, T=4)
    masks = Masks(0.5)
    seen: list[Tensor] = []
    apply = masks.apply

    def spy(name: str, current: Tensor) -> Tensor:
        result = apply(name, current)
        if name == "s1":
            seen.append(((result == 0) & (current != 0)).detach())
        return result

    masks.apply = spy  # type: ignore[method-assign]
    net.feedback(make_inputs(net), masks)
    dropped = torch.stack(seen).any(0)
    assert 0.3 < dropped.double().mean() < 0.7
    held = masks.apply("s1", torch.ones_like(dropped, dtype=torch.float32))
    assert set(held.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(held == 0, dropped | (held == 0))


def test_evaluation_draws_and_changes_nothing(layers: str) -> None:
    net = make_classifier(layers, dropout=0.5).eval()
    x = make_inputs(net)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    generator = torch.get_rng_state()
    with torch.no_grad():
        assert torch.equal(net(x).scores, net(x).scores)
    assert torch.equal(generator, torch.get_rng_state())
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_votes_order_the_classes_as_shorter_runs_do() -> None:
    net = make_classifier("f64c5", T=6).eval()
    short = make_classifier("f64c5", T=3).eval()
    short.load_state_dict(net.state_dict())
    x = make_inputs(net)
    with torch.no_grad():
        output, early = net(x), short(x)
    assert output.votes is not None
    weights = sum(0.95**k for k in range(6))
    assert torch.allclose(output.votes.sum(0) / weights, output.scores, atol=1e-5)
    assert torch.equal(output.votes[:3].sum(0).argmax(1), early.scores.argmax(1))


def test_unconverged_solution_is_counted_and_said_once() -> None:
    net = make_classifier("f64c5", max_iter=1, tol=1e-9)
    x = make_inputs(net)
    with pytest.warns(ConvergenceWarning, match="raise network.max_iter"):
        net(x).scores.sum().backward()
    net(x).scores.sum().backward()
    scalars = net.scalars()
    assert scalars["solver not converged"] == 1
    assert scalars["solver steps"] == 1
    assert 1e-9 < scalars["solver residual, worst"] < 1
    assert math.isfinite(scalars["equilibrium residual"])
    assert net.scalars() == {}


def test_one_step_gradient_is_not_the_implicit_one() -> None:
    grads = []
    for iterations in (0, 30):
        net = make_classifier("f64c5", max_iter=iterations)
        net(make_inputs(net)).scores.square().sum().backward()
        grads.append(net.feedback.input_transform.synapse.weight.grad)
    cosine = torch.cosine_similarity(grads[0].flatten(), grads[1].flatten(), 0)
    assert 0.5 < cosine < 0.9999


def test_running_statistics_in_the_jacobian_decouple_the_samples() -> None:
    grads = []
    for norm in ("batch", "running"):
        net = _double("alexnet-f", jacobian_norm=norm)
        net(make_inputs(net).double()).scores.square().sum().backward()
        grads.append(net.feedback.input_transform.synapse.weight.grad)
    assert not torch.allclose(grads[0], grads[1], rtol=1e-3)


def test_low_precision_runs_the_simulation_only() -> None:
    net = make_classifier("f64c5")
    x = make_inputs(net)
    with torch.autocast("cpu", torch.bfloat16):
        scores = net(x).scores
    scores.float().sum().backward()
    assert net.scalars()["solver not converged"] == 0


def test_two_passes_before_their_gradients() -> None:
    """The power iteration of the second pass does not spoil the graph of the first."""
    net = make_classifier("f64c5")
    first = net(make_inputs(net, seed=1)).scores
    second = net(make_inputs(net, seed=2)).scores
    (first.sum() + second.sum()).backward()
    gain = net.feedback.transforms[0].synapse.parametrizations.weight[0].gain
    assert gain.grad is not None and gain.grad.isfinite()


def test_memory_does_not_grow_with_the_time_steps(layers: str) -> None:
    """What a training step keeps for its gradient, in bytes."""
    kept = {}
    for time_steps in (5, 30, 100):
        net = make_classifier(layers, T=time_steps)
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = net(make_inputs(net))
        output.scores.sum().backward()
        kept[time_steps] = sum(sizes.values())
    assert len(set(kept.values())) == 1


def test_trace_of_a_neuron_that_is_stepped() -> None:
    """The report sees all time steps of a network that calls its neurons step by step."""
    net = make_classifier("f64c5", T=7).eval()
    x = make_inputs(net)
    fired: list[Tensor] = []
    with torch.no_grad():
        net.feedback(x, observe=lambda t, spikes: fired.append(spikes[0][1]))
    (traced,) = trace(net, x, sample=1)
    assert torch.equal(traced.spikes, torch.stack(fired).flatten(1).bool())
    assert len(traced.potentials["h"]) == 7
