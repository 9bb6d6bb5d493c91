"""What a compiled neuron must agree with: the eager neuron to the bit, and float64 autograd of a
plain loop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal
from unittest.mock import patch

import torch
from torch import Tensor

from spikeloom.neurons import Neuron
from spikeloom.neurons.surrogate import bound

BITS = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}


def assert_same_bits(actual: Tensor, expected: Tensor, what: str) -> None:
    """Equal to the bit, the sign of zero included; any NaN equals any other."""
    assert actual.dtype == expected.dtype, what
    assert actual.shape == expected.shape, what
    nan = actual.isnan()
    assert torch.equal(nan, expected.isnan()), f"{what}: NaN elsewhere"
    bits = BITS[actual.dtype]
    different = (actual.contiguous().view(bits) != expected.contiguous().view(bits)) & ~nan
    count = int(different.sum())
    assert count == 0, (
        f"{what}: {count} of {different.numel()} differ, first {actual[different][0].item()!r} "
        f"against {expected[different][0].item()!r}"
    )


@dataclass
class Result:
    """One forward and backward pass."""

    spikes: Tensor
    state: tuple[Tensor, ...]
    gradients: dict[str, Tensor] = field(default_factory=dict)
    sizes: dict[str, Tensor] = field(default_factory=dict)
    """For each coef the sum of the absolute values of what its gradient is the sum of."""


@contextmanager
def leaf_coefs(neuron: Neuron) -> Iterator[dict[str, Tensor]]:
    """The coefs of a neuron and its surrogate as leaves of their own, those that learn with a
    gradient."""
    own = {n: c.detach().clone().requires_grad_(c.requires_grad) for n, c in neuron.coefs().items()}
    learned = {
        n: c.detach().clone().requires_grad_(c.requires_grad)
        for n, c in neuron.surrogate.coefs().items()
    }
    with (
        patch.object(type(neuron), "coefs", lambda self: own),
        patch.object(type(neuron.surrogate), "coefs", lambda self: learned),
    ):
        yield own | {f"surrogate.{name}": value for name, value in learned.items()}


def run_neuron(
    neuron: Neuron,
    backend: Literal["cpu", "gpu", "eager"],
    base: Tensor,
    view: Callable[[Tensor], Tensor],
    start: tuple[Tensor, ...] | None,
    grads: tuple[Tensor, ...],
) -> Result:
    """The neuron on `view(base)`, and the gradients of base, initial states and coefs for the
    cotangents `grads` of the spikes and, if there are more, of the final states."""
    neuron = deepcopy(neuron)
    neuron.backend = backend
    base = base.clone().requires_grad_()
    begin = None if start is None else tuple(s.clone().requires_grad_() for s in start)
    with leaf_coefs(neuron) as coefs:
        x = view(base)
        rest = neuron.initial_state(x)
        spikes, state = neuron(x, (*(begin or ()), *rest[len(begin or ()) :]))
        state = state[: len(neuron.states)]
        wanted: dict[str, Tensor] = {"x": base}
        wanted |= {f"start {i}": s for i, s in enumerate(begin or ())}
        wanted |= {name: coef for name, coef in coefs.items() if coef.requires_grad}
        outputs = (spikes, *state)[: len(grads)]
        found = torch.autograd.grad(outputs, list(wanted.values()), grads, allow_unused=True)
    gradients = {
        name: torch.zeros_like(leaf) if grad is None else grad
        for (name, leaf), grad in zip(wanted.items(), found, strict=True)
    }
    return Result(spikes.detach(), tuple(s.detach() for s in state), gradients)


def run_loop(
    neuron: Neuron,
    base: Tensor,
    view: Callable[[Tensor], Tensor],
    start: tuple[Tensor, ...] | None,
    grads: tuple[Tensor, ...],
) -> Result:
    """The same in float64, by a loop over time with every coef written out to `[T, B, ...]`."""
    neuron = deepcopy(neuron).double()
    base = base.double().requires_grad_()
    x = view(base)
    begin = None if start is None else tuple(s.double().requires_grad_() for s in start)
    rest = neuron.rest()
    states = begin or tuple(torch.full_like(x[0], rest.get(name, 0.0)) for name in neuron.states)
    own, learned = neuron.coefs(), neuron.surrogate.coefs()
    whole = {
        name: spread(coef, x, name in neuron.time_coefs).requires_grad_(coef.requires_grad)
        for name, coef in (own | {f"surrogate.{n}": c for n, c in learned.items()}).items()
    }
    spikes = []
    for t in range(x.shape[0]):
        with bound(neuron.surrogate, {n: whole[f"surrogate.{n}"][t] for n in learned}):
            out = neuron.step(x[t], *states, **{n: whole[n][t] for n in own})
        spikes.append(out[0])
        states = out[1 : 1 + len(states)]
    wanted: dict[str, Tensor] = {"x": base}
    wanted |= {f"start {i}": s for i, s in enumerate(begin or ())}
    wanted |= {name: coef for name, coef in whole.items() if coef.requires_grad}
    outputs = (torch.stack(spikes), *states)[: len(grads)]
    found = torch.autograd.grad(
        outputs, list(wanted.values()), [g.double() for g in grads], allow_unused=True
    )
    gradients, sizes = {}, {}
    coefs = own | {f"surrogate.{n}": c for n, c in learned.items()}
    for (name, leaf), grad in zip(wanted.items(), found, strict=True):
        grad = torch.zeros_like(leaf) if grad is None else grad
        if name in coefs:
            per_time = name in neuron.time_coefs
            sizes[name] = _gathered(grad.abs(), coefs[name], per_time)
            grad = _gathered(grad, coefs[name], per_time)
        gradients[name] = grad
    return Result(outputs[0].detach(), tuple(s.detach() for s in states), gradients, sizes)


def _axes_of(coef: Tensor, x_shape: tuple[int, ...], per_time: bool) -> tuple[int, ...]:
    """The shape of a coef with an axis for each of `[T, B, ...]`."""
    time = coef.shape[0] if per_time else 1
    rest = tuple(coef.shape[1:] if per_time else coef.shape)
    if all(size == 1 for size in rest):
        rest = (1,) * (len(x_shape) - 2)
    elif len(rest) == 1:
        rest = (*rest, *[1] * (len(x_shape) - 3))
    return (time, 1, *rest)


def spread(coef: Tensor, x: Tensor, per_time: bool) -> Tensor:
    """A coef repeated to the shape of the input."""
    shape = _axes_of(coef, tuple(x.shape), per_time)
    return coef.detach().double().reshape(shape).expand(x.shape).contiguous()


def _gathered(grad: Tensor, coef: Tensor, per_time: bool) -> Tensor:
    return grad.sum_to_size(_axes_of(coef, tuple(grad.shape), per_time)).reshape(coef.shape)


def assert_gradients(actual: Result, eager: Result, exact: Result, rel: float) -> None:
    """Every gradient equals float64 autograd, relative to its largest element; that of a coef
    relative to the largest sum of the absolute values of what it adds up.

    Where the derivative of a surrogate jumps (a rectangle's edge), float32 and float64 may take
    different sides; there eager float32 autograd is what the kernel must equal.
    """
    assert actual.gradients.keys() == exact.gradients.keys() == eager.gradients.keys()
    for name, value in actual.gradients.items():
        want, other = exact.gradients[name], eager.gradients[name].double()
        assert value.shape == want.shape, name
        size = exact.sizes.get(name, want.abs()).max()
        allowed = rel * size + 1e-30
        error = (value.double() - want).abs()
        jumped = (other - want).abs() > allowed
        fine = (error <= allowed) | (jumped & ((value.double() - other).abs() <= allowed))
        assert bool(fine.all()), (
            f"gradient of {name}: off by {float((error / (size + 1e-30))[~fine].max()):.2e} "
            f"of its size, "
            f"eager by {float(((other - want).abs() / (size + 1e-30)).max()):.2e}"
        )


def cotangents(
    neuron: Neuron, spikes: Callable[[], Tensor], shape: tuple[int, ...], seed: int, **options: Any
) -> tuple[Tensor, ...]:
    """Gradients arriving at the spikes and at every final state."""
    random = torch.Generator().manual_seed(seed + 1)
    return (
        spikes(),
        *(torch.randn(shape, generator=random).to(**options) for _ in neuron.states),
    )
