"""Networks in pieces of time: together they are bit for bit what the whole sequence gives."""

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.data.base import DataSpec
from spikeloom.methods import catalog
from spikeloom.nn import BatchNorm, Dropout, Output, Sequential, map_state, stream

PIECES = ([5, 5, 5, 5], [1] * 20, [7, 1, 12])


class Residual(nn.Module):
    """A user's block: it knows nothing about states, and calls one neuron twice."""

    time_first = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Sequential(nn.Linear(channels, channels), sl.PLIF())
        self.second = sl.nn.steps(nn.Linear(channels, channels))
        self.neuron = sl.LIF(tau=3.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.neuron(x * 2) + self.second(self.first(x)) + x)


def network() -> Sequential:
    torch.manual_seed(0)
    net = Sequential(
        nn.Linear(6, 8),
        sl.CuLIF(4.0, 3.0),
        Sequential(nn.Linear(8, 8), Dropout(0.25), sl.AdLIF(4.0, shape=(8,))),
        Residual(8),
        BatchNorm(8),
        nn.Linear(8, 8),
        sl.GLIF(8, 20, time_wise=True),
    )
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.data.mul_(6)
    return net


@pytest.mark.parametrize("pieces", PIECES, ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_pieces_of_any_length_equal_the_whole(pieces: list[int], training: bool) -> None:
    """In training too: one dropout mask, BatchNorm step by step; gradients cross the pieces."""
    torch.manual_seed(0)
    x = torch.randn(20, 2, 6).requires_grad_()
    results = []
    for split in ([20], pieces):
        net = network().train(training)
        torch.manual_seed(1)
        if split == [20]:
            y = net(x)
        else:
            parts, state = [], None
            for piece in x.split(split):
                part, state = net(piece, state)
                parts.append(part)
            y = torch.cat(parts)
        x.grad = None
        y.square().sum().backward()
        assert x.grad is not None
        results.append((y, x.grad, net[3].neuron(y), *(p.grad for p in net.parameters())))
    (whole, *gradients), (parts, *others) = results
    assert torch.equal(whole, parts) and whole.sum() > 0
    for gradient, other in zip(gradients, others, strict=True):
        assert gradient is not None and other is not None
        assert torch.allclose(gradient, other, rtol=1e-4, atol=1e-5)


def test_the_state_at_rest_leaves_no_trace() -> None:
    net, x = network(), torch.randn(20, 2, 6)
    net[4].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(2)
    state = net.initial_state(x)
    drawn = torch.rand(1)
    torch.manual_seed(2)
    assert torch.equal(drawn, torch.rand(1))
    assert net[0].training and not net[4].training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert state.keys() == {"1", "2", "3", "6"}
    assert state["3"].keys() == {"first", "neuron", "neuron#1"}
    net.eval()
    assert torch.equal(net(x, state)[0], net(x, None)[0])


def test_a_state_is_mapped_and_cut() -> None:
    net, x = network().eval(), torch.randn(20, 2, 6, requires_grad=True)
    _, state = net(x[:8], None)
    cut = map_state(Tensor.detach, state)
    assert cut["3"]["first"]["1"][0].grad_fn is None and state["3"]["first"]["1"][0].grad_fn
    y, _ = net(x[8:], cut)
    y.sum().backward()
    assert x.grad is not None and not x.grad[:8].any() and x.grad[8:].any()


def test_hooks_see_spikes_alone() -> None:
    net, seen = network().eval(), []
    net[3].neuron.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    net(torch.randn(4, 2, 6), None)
    assert seen == [(4, 2, 8), (4, 2, 8)]


def test_states_of_other_networks_are_refused() -> None:
    net, x = network().eval(), torch.randn(4, 2, 6)
    with pytest.raises(ValueError, match="state of '9', and has no such layer"):
        net(x, {"9": ()})
    with pytest.raises(ValueError, match="of 'other'"):
        net(x, {"3": {"other": ()}})


def test_what_keeps_its_states_to_itself_is_refused() -> None:
    class Own(Residual):
        def forward(self, x: Tensor) -> Tensor:
            return self.neuron(self.second(self.first(x)), self.neuron.initial_state(x))[0]

    class Runs(Residual):
        def forward(self, x: Tensor) -> Tensor:
            return self.neuron.run(self.second(self.first(x))).spikes

    with pytest.raises(ValueError, match="Own gives 'neuron' a state itself"):
        stream(Own(6), torch.rand(4, 2, 6))
    with pytest.raises(ValueError, match="Runs did not call 'neuron'"):
        Sequential(Runs(6))(torch.rand(4, 2, 6), None)


@pytest.mark.parametrize(
    ("recipe", "shape"), [("plif/digits-events", (2, 8, 8)), ("glif/cifar10-dvs", (2, 48, 48))]
)
def test_published_networks_stream(recipe: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    loaded = catalog.load_recipe(recipe)
    spec = DataSpec("made", shape, tuple("abcdefghij"), "events")
    net = catalog.method_of(loaded).build(loaded.network, spec).eval()
    x = torch.rand(loaded.network.T, 1, *shape)
    whole, votes, state = net(x).votes, [], None
    for piece in x.split(3):
        output, state = stream(net, piece, state)
        assert isinstance(output, Output) and output.votes is not None
        votes.append(output.votes)
    assert torch.equal(torch.cat(votes), whole)
