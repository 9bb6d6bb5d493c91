"""Surrogates: a step forward, the stated derivative backward, and a primitive that belongs to
it."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import spikeloom as sl
from spikeloom.neurons import (
    LIF,
    ATan,
    FastSigmoid,
    Gaussian,
    Rectangle,
    Sigmoid,
    Surrogate,
    Triangle,
)

ALL: dict[str, Callable[..., Surrogate]] = {
    "atan": lambda **options: ATan(3.0, **options),
    "atan, learnable": lambda **options: ATan(1.5, learnable=True, **options),
    "rectangle": lambda **options: Rectangle(0.8, **options),
    "triangle": lambda **options: Triangle(0.3, 1.4, **options),
    "fast sigmoid": lambda **options: FastSigmoid(5.0, **options),
    "sigmoid": lambda **options: Sigmoid(3.0, **options),
    "gaussian": lambda **options: Gaussian(0.5, **options),
}
FORMULAS: dict[str, Callable[[float], float]] = {
    "atan": lambda u: 1.5 / (1 + (math.pi / 2 * 3.0 * u) ** 2),
    "atan, learnable": lambda u: 0.75 / (1 + (math.pi / 2 * 1.5 * u) ** 2),
    "rectangle": lambda u: 1 / 0.8 if abs(u) < 0.4 else 0.0,
    "triangle": lambda u: 0.3 * max(0.0, 1 - abs(u) / 1.4),
    "fast sigmoid": lambda u: 1 / (1 + 5 * abs(u)) ** 2,
    "sigmoid": lambda u: 3 * math.exp(-3 * u) / (1 + math.exp(-3 * u)) ** 2,
    "gaussian": lambda u: math.exp(-(u**2) / 0.5) / (0.5 * math.sqrt(2 * math.pi)),
}


def grid() -> Tensor:
    """Around the threshold, apart from the points where a derivative has a corner or a jump."""
    return torch.linspace(-2.03, 2.01, 401, dtype=torch.float64)


@pytest.mark.parametrize("name", ALL)
def test_the_derivative_is_the_stated_formula(name: str) -> None:
    surrogate = ALL[name]().double()
    u = grid().requires_grad_()
    (slope,) = torch.autograd.grad(surrogate(u).sum(), u)
    expected = [FORMULAS[name](value) for value in u.tolist()]
    assert slope.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_the_derivative_is_that_of_the_primitive(name: str) -> None:
    surrogate = ALL[name]().double()
    u, step = grid(), 1e-6
    numeric = (surrogate.primitive(u + step) - surrogate.primitive(u - step)) / (2 * step)
    with torch.no_grad():
        torch.testing.assert_close(numeric, surrogate.derivative(u), rtol=1e-5, atol=1e-6)
    assert surrogate.primitive(torch.zeros(())).item() == pytest.approx(
        0.21 if name == "triangle" else 0.5
    )


@pytest.mark.parametrize("name", ALL)
def test_it_fires_at_threshold_or_strictly_above(name: str) -> None:
    u = torch.tensor([-1.0, -1e-30, -0.0, 0.0, 1e-30, 1.0, math.nan, math.inf])
    assert ALL[name]()(u).tolist() == [0, 0, 1, 1, 1, 1, 0, 1]
    assert ALL[name](strict=True)(u).tolist() == [0, 0, 0, 0, 1, 1, 0, 1]


def smooth_neuron(name: str, backend: str) -> LIF:
    """A LIF whose output is the primitive: every path, the reset included, is differentiable."""
    return LIF(
        2.3,
        detach_reset=False,
        surrogate=ALL[name](spiking=False),
        backend=backend,
    ).double()


COMPILED = ("atan, learnable", "gaussian", "fast sigmoid")


@pytest.mark.parametrize(
    ("name", "backend"),
    [(name, "eager") for name in ALL]
    + [
        pytest.param(name, "cpu", marks=() if name in COMPILED else pytest.mark.slow)
        for name in ALL
    ],
)
def test_gradients_of_the_smooth_neuron_are_its_derivative(name: str, backend: str) -> None:
    neuron = smooth_neuron(name, backend)
    random = torch.Generator().manual_seed(5)
    x = torch.randn(4, 1, 5, generator=random, dtype=torch.float64).requires_grad_()
    v = torch.randn(1, 5, generator=random, dtype=torch.float64).requires_grad_()
    learned = tuple(neuron.parameters())

    def function(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        spikes, (final,) = neuron(tensors[0], (tensors[1],))
        return spikes, final

    assert torch.autograd.gradcheck(function, (x, v, *learned), eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_smooth_in_training_only(name: str) -> None:
    surrogate = ALL[name](spiking=False)
    u = torch.linspace(-1, 1, 11)
    with torch.no_grad():
        assert torch.equal(surrogate(u), surrogate.primitive(u))
        surrogate.eval()
        assert surrogate(u).unique().tolist() == [0, 1]


def test_a_neuron_follows_its_surrogate_between_modes() -> None:
    neuron = smooth_neuron("fast sigmoid", "cpu")
    x = torch.rand(4, 1, 5, dtype=torch.float64) * 3
    assert len(neuron(x).unique()) > 2
    neuron.eval()
    assert set(neuron(x).unique().tolist()) == {0.0, 1.0}


def test_alpha_learns() -> None:
    surrogate = ATan(1.5, learnable=True).double()
    u = grid()
    up = torch.cos(u)
    (surrogate(u) * up).sum().backward()
    expected = (up * (u / 2) / (1 + (math.pi / 2 * 1.5 * u) ** 2)).sum()
    assert isinstance(surrogate.alpha, Tensor) and surrogate.alpha.grad is not None
    torch.testing.assert_close(surrogate.alpha.grad, expected, rtol=1e-12, atol=0)
    assert list(LIF(surrogate=ATan(learnable=True)).state_dict()) == ["surrogate.alpha"]


class Cosine(sl.Surrogate):
    def derivative(self, u):
        return torch.where(u.abs() < 1, 0.5 + 0.5 * torch.cos(torch.pi * u), 0.0)


def test_a_surrogate_of_ones_own_compiles() -> None:
    x = torch.randn(6, 3, 50, generator=torch.Generator().manual_seed(6)) + 0.5
    found = []
    for backend in ("cpu", "eager"):
        leaf = x.clone().requires_grad_()
        spikes = LIF(surrogate=Cosine(), backend=backend)(leaf)
        (spikes * x).sum().backward()
        found.append((spikes.detach(), leaf.grad))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-5, atol=1e-6)
    assert found[0][1].abs().sum() > 0


class PerChannel(sl.Surrogate):
    """Learns a steepness for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.linspace(0.5, 2.0, channels))

    def coefs(self) -> dict[str, Tensor]:
        return {"slope": self.slope}

    def derivative(self, u: Tensor, *, slope: Tensor) -> Tensor:
        return slope / (1 + (slope * u) ** 2)

    def coef_derivatives(self, u: Tensor, *, slope: Tensor) -> dict[str, Tensor]:
        return {"slope": u / (1 + (slope * u) ** 2)}


def test_a_surrogate_may_learn_per_channel() -> None:
    x = torch.randn(6, 3, 7, 40, generator=torch.Generator().manual_seed(7)) + 0.5
    found = []
    for backend in ("cpu", "eager"):
        neuron = LIF(surrogate=PerChannel(7), backend=backend)
        leaf = x.clone().requires_grad_()
        (neuron(leaf) * x).sum().backward()
        found.append((leaf.grad, neuron.surrogate.slope.grad))
    for actual, expected in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    assert found[0][1].shape == (7,) and bool((found[0][1] != 0).all())


class Nothing(Surrogate):
    pass


class LearnsButHowNot(PerChannel):
    coef_derivatives = Surrogate.coef_derivatives


def test_what_a_surrogate_lacks_is_named() -> None:
    u = torch.ones(3, requires_grad=True)
    with pytest.raises(TypeError, match=r"Nothing must override derivative\(u\)"):
        Nothing()(u).sum().backward()
    with pytest.raises(TypeError, match=r"Nothing has no primitive\(u\)"):
        Nothing(spiking=False)(u)
    with pytest.raises(TypeError, match=r"LearnsButHowNot .* must override coef_derivatives\(u\)"):
        LearnsButHowNot(3)(u).sum().backward()


@pytest.mark.parametrize(
    "make",
    [
        lambda value: ATan(value),
        lambda value: Rectangle(value),
        lambda value: Triangle(gamma=value),
        lambda value: Triangle(width=value),
        lambda value: FastSigmoid(value),
        lambda value: Sigmoid(value),
        lambda value: Gaussian(value),
    ],
)
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_steepness_must_be_positive(make: Callable[[float], Surrogate], value: float) -> None:
    with pytest.raises(ValueError, match=f"={value!r}: expected a positive number"):
        make(value)


def test_settings_are_shown() -> None:
    assert repr(ATan(3.0)) == "ATan(alpha=3)"
    assert repr(Rectangle(strict=True, spiking=False)) == "Rectangle(strict=True, spiking=False)"
