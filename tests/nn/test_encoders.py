"""Random layers, encoders and readouts over time."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.nn import Latency, Poisson, Readout, Sequential, is_constant, per_step


class Noise(nn.Module):
    """A random layer after one whose buffers a forward pass changes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return x + torch.randn_like(x)


class NumpyNoise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.draws = np.random.default_rng(0)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.from_numpy(self.draws.random(x.shape)).float()


def patterns(y: Tensor) -> int:
    return len(torch.unique(y.flatten(1), dim=0))


GENERATOR = torch.Generator()
RANDOM = {
    "module": Noise,
    "generator of its own": lambda: sl.nn.steps(_Lambda(_drawn)),
    "dropout": lambda: nn.Dropout(0.5),
    "inside": lambda: nn.Sequential(nn.Linear(16, 16), nn.Sequential(nn.ReLU(), nn.Dropout(0.3))),
    "functional": lambda: _Lambda(lambda x: F.dropout(x, 0.5)),
    "hook": lambda: _hooked(nn.Linear(16, 16)),
    "numpy": lambda: _Lambda(lambda x: x + torch.from_numpy(np.random.rand(*x.shape)).float()),  # noqa: NPY002
    "python": lambda: _Lambda(lambda x: x + torch.tensor([[random.random()] for _ in x])),
    "numpy's of its own": lambda: NumpyNoise(),
}


class _Lambda(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _drawn(x: Tensor) -> Tensor:
    return torch.bernoulli(x.clamp(0, 1), generator=GENERATOR)


def _hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, inputs, output: output + torch.rand_like(output))
    return layer


@pytest.mark.parametrize("name", RANDOM)
def test_a_random_layer_draws_at_each_step_of_a_constant_current(name: str) -> None:
    current = torch.full((4, 16), 0.5).expand(8, 4, 16)
    net = Sequential(nn.Linear(16, 16), RANDOM[name](), nn.Linear(16, 16))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(16)), net[0].bias.zero_()
    assert patterns(net(current)) == 8
    net.eval()
    assert is_constant(net(current)) == (name in ("dropout", "inside"))


def test_what_was_begun_before_the_random_number_leaves_no_trace() -> None:
    image = torch.randn(4, 16)
    once, layer = Noise(), Noise()
    per_step(layer, image.expand(8, 4, 16))
    once.norm(image.repeat(8, 1))
    assert torch.equal(layer.norm.running_var, once.norm.running_var)
    assert layer.norm.num_batches_tracked == 1


def test_layers_without_chance_still_see_a_constant_current_once() -> None:
    seen = []
    watched = _Lambda(lambda x: seen.append(len(x)) or x * 2)
    y = Sequential(nn.Linear(16, 16), watched, nn.ReLU())(torch.rand(4, 16).expand(8, 4, 16))
    assert is_constant(y) and seen == [4]


def test_poisson_fires_with_the_intensity_as_probability() -> None:
    torch.manual_seed(0)
    image = torch.tensor([[0.0, 0.25, 1.0]]).repeat(50, 1)
    spikes = Poisson()(image.expand(200, 50, 3))
    assert set(spikes.unique().tolist()) == {0.0, 1.0} and patterns(spikes) == 200
    assert torch.allclose(spikes.mean((0, 1)), image[0], atol=0.02)
    half = Poisson(rate=0.5)(image.expand(200, 50, 3)).mean((0, 1))
    assert torch.allclose(half, image[0] / 2, atol=0.02)
    torch.manual_seed(0)
    assert torch.equal(spikes, torch.cat([Poisson()(p) for p in image.expand(200, 50, 3).split(7)]))


def test_latency_fires_once_the_bright_first() -> None:
    image = torch.tensor([[1.0, 0.5, 0.01, 0.0]])
    spikes = Latency(5)(image.expand(5, 1, 4))
    first = [step.flatten().nonzero().flatten().tolist() for step in spikes]
    assert first == [[0], [], [1], [], [2]]
    assert not Latency(5, threshold=0.5)(image.expand(5, 1, 4))[:, 0, 1:].any()
    state, parts = None, []
    for piece in image.expand(5, 1, 4).split(2):
        part, state = Latency(5)(piece, state)
        parts.append(part)
    assert torch.equal(torch.cat(parts), spikes)
    with pytest.raises(ValueError, match="over T=5 time steps and got 4"):
        Latency(5)(image.expand(4, 1, 4))


@pytest.mark.parametrize("encoder", [Poisson(), Latency(2)])
def test_normalised_images_are_refused(encoder: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"from -1 to 2: expected intensities in \[0, 1\]"):
        encoder(torch.tensor([[-1.0, 2.0]]).expand(2, 1, 2))


@pytest.mark.parametrize("over", ["last", "mean", "max", "sum"])
def test_a_readout_in_pieces_is_the_answer_so_far(over) -> None:
    net = Sequential(nn.Linear(4, 3), sl.LI(tau=3.0), Readout(over))
    x = torch.randn(9, 2, 4)
    state = None
    for end, piece in zip((4, 8, 9), x.split(4), strict=True):
        y, state = net(piece, state)
        assert torch.allclose(y, net(x[:end]), atol=1e-6)


@pytest.mark.kernels
@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("decay_input", [False, True])
def test_li_equals_its_equation(learn: bool, decay_input: bool) -> None:
    neuron = sl.LI(4.0, learn=learn, decay_input=decay_input).double()
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    v, expected = torch.zeros(2, 3, dtype=torch.float64), []
    for step in x:
        v = v + (step - v) / 4 if decay_input else v - v / 4 + step
        expected.append(v)
    assert torch.allclose(neuron(x), torch.stack(expected), rtol=1e-6)
    assert neuron.choice(x.device, x.dtype).backend == "cpu"
    assert not sl.LI.fires and neuron.constants()["tau"].item() == pytest.approx(4.0)
