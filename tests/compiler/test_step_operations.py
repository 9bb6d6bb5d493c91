"""Every operation that a step may use, forward and backward, against PyTorch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from spikeloom.compiler.front.ops import LOWERINGS
from spikeloom.compiler.front.trace import trace
from spikeloom.neurons import Neuron

Function = Callable[[Tensor, Tensor], Tensor]

EXACT: dict[str, Function] = {
    "add scaled by a power of two": lambda x, y: torch.add(x, y, alpha=0.5),
    "subtract from a number": lambda x, y: 1.5 - x,
    "rsub": lambda x, y: torch.rsub(x, y),
    "multiply by a number": lambda x, y: x * 0.1,
    "divide by a number": lambda x, y: x / 3.0,
    "divide": lambda x, y: x / (y.abs() + 0.5),
    "divide, rounded down": lambda x, y: torch.div(x, y.abs() + 0.5, rounding_mode="floor") * y,
    "divide by a number, rounded down": lambda x, y: torch.div(x, 0.1, rounding_mode="floor") * y,
    "negative": lambda x, y: -x,
    "reciprocal": lambda x, y: torch.reciprocal(x.abs() + 0.25),
    "absolute": lambda x, y: x.abs(),
    "square": lambda x, y: torch.square(x),
    "third power": lambda x, y: x**3,
    "power -1": lambda x, y: (x.abs() + 0.25) ** -1,
    "power -2": lambda x, y: (x.abs() + 0.25) ** -2,
    "floor": lambda x, y: torch.floor(x) * y,
    "sign": lambda x, y: torch.sign(x) * y,
    "maximum": lambda x, y: torch.maximum(x, y),
    "minimum": lambda x, y: torch.minimum(x, y),
    "remainder": lambda x, y: torch.remainder(x, 0.75),
    "clamp": lambda x, y: x.clamp(-0.5, 0.5),
    "clamp from below": lambda x, y: x.clamp_min(0.25),
    "clamp from above": lambda x, y: x.clamp_max(0.25),
    "clamp by tensors": lambda x, y: torch.clamp(x, y - 0.5, y + 0.5),
    "relu": lambda x, y: torch.relu(x),
    "comparisons": lambda x, y: (
        x * (x > y) + y * (x <= y) + (x < 0.25) * 0.5 + (x == y) * 0.25 + (x != 0.5) * x
    ),
    "more comparisons": lambda x, y: (x == 0.5) * y + (x != y) * x + (x < y) * 2.0,
    "logic": lambda x, y: torch.where(
        torch.logical_and(x > 0, y > 0) | torch.logical_xor(x > 1, y > 1) & ~(x < -1), x, y
    ),
    "logic on numbers": lambda x, y: torch.where(
        torch.logical_or(torch.logical_not(x), y > 0), x * 2, y
    ),
    "exclusive or": lambda x, y: x * ((x > 0) ^ (y > 0)),
    "sums of truths": lambda x, y: x * ((x > 0) + (y > 0) + (x > 1)) + y * ((x > 0) * (y > 0) + 1),
    "where with numbers": lambda x, y: torch.where(x > 0, 0.5, -0.25) * y,
    "where with one number": lambda x, y: torch.where(x > 0, x, 0.5),
    "where, number first": lambda x, y: torch.where(x > 0, 0.5, x),
    "masked fill": lambda x, y: x.masked_fill(y > 0, 0.75),
    "masked fill with a tensor": lambda x, y: x.masked_fill(y > 0, torch.tensor(0.75)),
    "not a number": lambda x, y: torch.where(torch.isnan(x), y, x),
    "of ones and zeros": lambda x, y: (
        x * torch.ones_like(x) + torch.zeros_like(y) + torch.full_like(x, 0.5)
    ),
    "of new ones and zeros": lambda x, y: (
        x * x.new_ones(x.shape) + x.new_zeros(x.shape) + torch.full(x.shape, 0.5)
    ),
    "of single numbers": lambda x, y: x * torch.ones(()) + torch.zeros(()) + torch.tensor(0.5),
    "in place": lambda x, y: (x * 1.0).add_(y) + (y * 1.0).mul_(0.5),
    "copies": lambda x, y: x.clone() + y.detach(),
    "to bool and back": lambda x, y: (x > 0).to(x.dtype) * y + y.bool().to(x.dtype),
}
CLOSE: dict[str, Function] = {
    # PyTorch may fuse a multiplication and an addition here, and takes the rest from vector
    # libraries that do not round correctly (the square root too)
    "add scaled": lambda x, y: torch.add(x, y, alpha=0.3),
    "interpolation": lambda x, y: torch.lerp(x, y, 0.3),
    "interpolation by a tensor": lambda x, y: torch.lerp(x, y, y.abs()),
    "sum with product": lambda x, y: torch.addcmul(x, y, y, value=0.5),
    "square root": lambda x, y: torch.sqrt(x.abs() + 0.1),
    "power 1/2": lambda x, y: (x.abs() + 0.1) ** 0.5,
    "reciprocal square root": lambda x, y: torch.rsqrt(x.abs() + 0.1),
    "power 1.5": lambda x, y: (x.abs() + 0.1) ** 1.5,
    "exponential": lambda x, y: torch.exp(x),
    "logarithm": lambda x, y: torch.log(x.abs() + 0.1),
    "logarithm of 1 + x": lambda x, y: torch.log1p(x.abs()),
    "logistic": lambda x, y: torch.sigmoid(x * 4),
    "hyperbolic tangent": lambda x, y: torch.tanh(x),
    "error function": lambda x, y: torch.erf(x),
    "arctangent": lambda x, y: torch.atan(x),
    "sine and cosine": lambda x, y: torch.sin(x) + torch.cos(y),
    "softplus": lambda x, y: torch.nn.functional.softplus(x, beta=2.0, threshold=5.0),
}
GROUPS = {"exact": EXACT, "close": CLOSE}


class Calculator(Neuron):
    """No neuron: its state becomes the function, of the input and itself, that the coef `which`
    names."""

    def __init__(self, group: str) -> None:
        super().__init__(backend="cpu")
        self.group = group
        self.register_buffer("which", torch.tensor(0.0))

    def coefs(self) -> dict[str, Tensor]:
        return {"which": self.which}

    def step(self, x: Tensor, v: Tensor, *, which: Tensor) -> tuple[Tensor, ...]:
        result = v
        for index, function in enumerate(GROUPS[self.group].values()):
            result = torch.where(which == index, function(x, v), result)
        return (x >= 0) * 1.0, result


@pytest.mark.filterwarnings("ignore:no gradient passes the spikes")
@pytest.mark.parametrize("group", GROUPS)
def test_values_and_gradients(group: str) -> None:
    neuron = Calculator(group)
    random = torch.Generator().manual_seed(1)
    x = torch.randn(1, 2, 333, generator=random) * 1.5
    v = torch.randn(2, 333, generator=random)
    x[0, 0, :8] = torch.tensor([0.0, -0.0, 0.25, -0.25, 0.5, -0.5, 1.0, -1.0])
    v[0, :16] = x[0, 0, :16]
    x.requires_grad_()
    v.requires_grad_()
    for index, name in enumerate(GROUPS[group]):
        neuron.which.fill_(index)
        found = {}
        for backend in ("cpu", "eager"):
            neuron.backend = backend
            _, (value,) = neuron(x, (v,))
            found[backend] = (value, *torch.autograd.grad(value.sum(), (x, v)))
        for what, got, want in zip(("value", "d/dx", "d/dv"), *found.values(), strict=True):
            if group == "exact" and what == "value":
                assert torch.equal(got, want), name
            else:
                where = f"{what} of {name}: "
                torch.testing.assert_close(
                    got, want, rtol=2e-6, atol=2e-6, msg=lambda m, where=where: where + m
                )


# what other PyTorch releases write where this one writes detach
RELEASE_DEPENDENT = {"alias.default"}


def _adjoint(step: Any, x: Tensor, v: Tensor, which: Tensor, g: Tensor) -> Any:
    _, pull = torch.func.vjp(step, x, v, which)
    return pull((g, g))


def test_every_listed_operation_is_met() -> None:
    """By the functions above, so that none is listed untested."""
    met: set[str] = set()
    for group in GROUPS:
        step = Calculator(group)._step()

        adjoint = partial(_adjoint, step.function)
        for function, count in ((step.function, 3), (adjoint, 4)):
            examples = [torch.linspace(0.1, 0.9, 2) for _ in range(count)]
            graph = make_fx(function)(*examples).graph
            met |= {str(node.target).removeprefix("aten.") for node in graph.nodes}
    assert set(LOWERINGS) - met == RELEASE_DEPENDENT


def test_an_operation_with_a_constant_result_is_folded() -> None:
    class Constants(Neuron):
        def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            two = torch.ones_like(x) + 1.0
            return self.surrogate(v + x - two), v + x * two / 2.0

    text = trace(Constants()._step(), torch.float32).forward.text()
    assert "2.0" in text and "add(1.0" not in text
