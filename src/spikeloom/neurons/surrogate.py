"""Surrogate gradients: a step function forward, a smooth derivative backward.

    s = Theta(u),  u = h - v_threshold        Theta(u) = 1 for u >= 0 (or u > 0 with `strict=True`)
    dL/du = dL/ds * derivative(u)

A surrogate of one's own is its derivative, written once in PyTorch; it compiles with the neuron
that uses it:

    class Cosine(sl.Surrogate):
        def derivative(self, u):
            return torch.where(u.abs() < 1, 0.5 + 0.5 * torch.cos(torch.pi * u), 0.0)
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from spikeloom.neurons.fixed import FixedConstants
from spikeloom.neurons.ranges import within

# Constants that a running step carries for a surrogate, by the surrogate's id (see `bound`).
_BOUND: ContextVar[dict[int, dict[str, Tensor]] | None] = ContextVar("bound", default=None)


class Surrogate(FixedConstants):
    """Base class: override `derivative`, and `primitive` if the smooth mode is wanted.

    `strict`: fire at u > 0 instead of u >= 0. `spiking=False`: while training, `primitive(u)`
    itself is the output (a smooth neuron, for gradient checks); in evaluation mode the step
    function is always used.

    Constants that learn are returned by `coefs()`; `derivative` and `primitive` then receive them
    as keyword arguments, and `coef_derivatives` returns the derivative of the output with respect
    to each. Keep them in their range there: `within` of `neurons/ranges.py`.
    """

    def __init__(self, *, strict: bool = False, spiking: bool = True) -> None:
        super().__init__()
        self.strict = strict
        self.spiking = spiking

    def fixed(self) -> dict[str, Any]:
        """Only what changes a spike: steepness and kind may be chosen anew."""
        return {"strict": self.strict}

    def coefs(self) -> dict[str, Tensor]:
        """Constants that learn, by name: a scalar, or per channel `[C]`. None by default."""
        return {}

    def derivative(self, *args: Any, **coefs: Any) -> Tensor:
        """ds/du used backward, elementwise, in the shape of `u`."""
        raise TypeError(f"{type(self).__name__} must override derivative(u)")

    def coef_derivatives(self, *args: Any, **coefs: Any) -> dict[str, Tensor]:
        """ds/d(coef) used backward, elementwise, for every name in `coefs()`."""
        raise TypeError(
            f"{type(self).__name__} has learnable constants: it must override coef_derivatives(u)"
        )

    def primitive(self, *args: Any, **coefs: Any) -> Tensor:
        """The smooth function whose derivative is `derivative`; the output where
        `spiking=False`.
        """
        raise TypeError(
            f"{type(self).__name__} has no primitive(u): it cannot run with spiking=False"
        )

    def forward(self, u: Tensor) -> Tensor:
        coefs = (_BOUND.get() or {}).get(id(self))
        if coefs is None:
            coefs = self.coefs()
        if not self.spiking and self.training:
            return self.primitive(u, **coefs)
        if torch._C._get_tracing_state() is not None:
            return self._written_out(u, coefs)
        return _Spike.apply(u, self, tuple(coefs), *coefs.values())  # type: ignore[no-any-return]

    def _written_out(self, u: Tensor, coefs: dict[str, Tensor]) -> Tensor:
        """Spikes in operations that `torch.jit` can save; the rule of a Function it cannot. It is
        the same with gradient and without: jit traces twice, and compares."""
        spikes = ((u > 0) if self.strict else (u >= 0)).to(u.dtype)
        slopes = {"u": self.derivative(u, **coefs)}
        slopes |= self.coef_derivatives(u, **coefs) if coefs else {}
        for name, value in {"u": u, **coefs}.items():  # each adds 0, with the slope for gradient
            spikes = spikes + (value - value.detach()) * slopes[name].detach()
        return spikes

    def extra_repr(self) -> str:
        constants = (
            [f"alpha={self.alpha:g}"] if isinstance(getattr(self, "alpha", None), float) else []
        )
        return ", ".join(
            constants + ["strict=True"] * self.strict + ["spiking=False"] * (not self.spiking)
        )


@contextmanager
def bound(surrogate: Surrogate, coefs: dict[str, Tensor]) -> Iterator[None]:
    """Let `surrogate` use `coefs` in place of its own parameters inside the block.

    The compiler passes learnable constants through a step as arguments, so that they get gradients;
    the step calls `self.surrogate(u)` without naming them.
    """
    token = _BOUND.set({**(_BOUND.get() or {}), id(surrogate): coefs})
    try:
        yield
    finally:
        _BOUND.reset(token)


class _Spike(torch.autograd.Function):
    """Step function with the surrogate's rule; in `setup_context` form, so that torch.func can
    trace it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, surrogate: Surrogate, names: tuple[str, ...], *coefs: Tensor) -> Tensor:
        return ((u > 0) if surrogate.strict else (u >= 0)).to(u.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u, ctx.surrogate, ctx.names, *coefs = inputs
        ctx.save_for_backward(u, *coefs)
        ctx.save_for_forward(u, *coefs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        u, *values = ctx.saved_tensors
        coefs = dict(zip(ctx.names, values, strict=True))
        (grad,) = grads
        grad_coefs: list[Tensor | None] = [None] * len(coefs)
        if any(ctx.needs_input_grad[3:]):
            slopes = ctx.surrogate.coef_derivatives(u, **coefs)
            grad_coefs = [
                (grad * slopes[name]).sum_to_size(value.shape) for name, value in coefs.items()
            ]
        return grad * ctx.surrogate.derivative(u, **coefs), None, None, *grad_coefs

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        u, *values = ctx.saved_tensors
        coefs = dict(zip(ctx.names, values, strict=True))
        result = tangents[0] * ctx.surrogate.derivative(u, **coefs)
        learned = dict(zip(ctx.names, tangents[3:], strict=True))
        if any(tangent is not None for tangent in learned.values()):
            slopes = ctx.surrogate.coef_derivatives(u, **coefs)
            result = result + sum(t * slopes[n] for n, t in learned.items() if t is not None)
        return result


LOWEST_STEEPNESS = 1e-3
"""Below 0 a learned steepness would turn every gradient round."""


class ATan(Surrogate):
    """Arctangent surrogate.

        derivative  (alpha / 2) / (1 + (pi/2 * alpha * u)^2)
        primitive   atan(pi/2 * alpha * u) / pi + 1/2

    `alpha` (2.0) is the steepness, unitless, > 0; with `learnable=True` it is a scalar parameter
    whose gradient is that of the primitive: (u / 2) / (1 + (pi/2 * alpha * u)^2); it acts as if it
    were at least 0.001, and its gradient brings it back from below. Source: PLIF
    (Fang et al., ICCV 2021), section 4.4.
    """

    def __init__(
        self,
        alpha: float = 2.0,
        *,
        learnable: bool = False,
        strict: bool = False,
        spiking: bool = True,
    ):
        super().__init__(strict=strict, spiking=spiking)
        alpha = _positive("alpha", alpha)
        self.alpha = nn.Parameter(torch.tensor(alpha)) if learnable else alpha

    def coefs(self) -> dict[str, Tensor]:
        if not isinstance(self.alpha, Tensor):
            return {}
        return {"alpha": within(self.alpha, LOWEST_STEEPNESS)}

    def _steepness(self, alpha: Tensor | None) -> Tensor | float:
        return self.coefs().get("alpha", self.alpha) if alpha is None else alpha

    def derivative(self, u: Tensor, alpha: Tensor | None = None) -> Tensor:
        a = self._steepness(alpha)
        return (a / 2) / (1 + (math.pi / 2 * a * u) ** 2)

    def coef_derivatives(self, u: Tensor, alpha: Tensor | None = None) -> dict[str, Tensor]:
        a = self._steepness(alpha)
        return {"alpha": (u / 2) / (1 + (math.pi / 2 * a * u) ** 2)}

    def primitive(self, u: Tensor, alpha: Tensor | None = None) -> Tensor:
        a = self._steepness(alpha)
        return torch.atan(math.pi / 2 * a * u) / math.pi + 0.5


class Rectangle(Surrogate):
    """Rectangular window: derivative 1 / width where |u| < width / 2, else 0; its integral is 1.

    `width` (1.0), in units of the membrane potential, > 0. Source: STBP (Wu et al., 2018), used by
    GLIF.
    """

    def __init__(self, width: float = 1.0, *, strict: bool = False, spiking: bool = True):
        super().__init__(strict=strict, spiking=spiking)
        self.width = _positive("width", width)

    def derivative(self, u: Tensor) -> Tensor:
        return (u.abs() < self.width / 2).to(u.dtype) * (1 / self.width)

    def primitive(self, u: Tensor) -> Tensor:
        return (u / self.width + 0.5).clamp(0, 1)


class Triangle(Surrogate):
    """Triangular window: derivative gamma * max(0, 1 - |u| / width).

    `gamma` (1.0) is the height at threshold; `width` (1.0) the half base, both > 0; the integral is
    gamma * width. Source: Bellec et al., NeurIPS 2018 (there gamma = 0.3).
    """

    def __init__(
        self, gamma: float = 1.0, width: float = 1.0, *, strict: bool = False, spiking: bool = True
    ):
        super().__init__(strict=strict, spiking=spiking)
        self.gamma = _positive("gamma", gamma)
        self.width = _positive("width", width)

    def derivative(self, u: Tensor) -> Tensor:
        return torch.relu(1 - u.abs() / self.width) * self.gamma

    def primitive(self, u: Tensor) -> Tensor:
        r = (u / self.width).clamp(-1, 1)
        return self.gamma * self.width * (r - 0.5 * r * r.abs() + 0.5)


class FastSigmoid(Surrogate):
    """Derivative 1 / (1 + k|u|)^2, that of u / (1 + k|u|).

    `k` (10.0) is the steepness, > 0. Source: SuperSpike (Zenke and Ganguli, 2018); used by
    first-spike coding.
    """

    def __init__(self, k: float = 10.0, *, strict: bool = False, spiking: bool = True):
        super().__init__(strict=strict, spiking=spiking)
        self.k = _positive("k", k)

    def derivative(self, u: Tensor) -> Tensor:
        return 1 / (1 + self.k * u.abs()) ** 2

    def primitive(self, u: Tensor) -> Tensor:
        return u / (1 + self.k * u.abs()) + 0.5


class Sigmoid(Surrogate):
    """Derivative of a logistic function: alpha * sigma(alpha u) * (1 - sigma(alpha u)).

    `alpha` (4.0) is the steepness, > 0.
    """

    def __init__(self, alpha: float = 4.0, *, strict: bool = False, spiking: bool = True):
        super().__init__(strict=strict, spiking=spiking)
        self.alpha = _positive("alpha", alpha)

    def derivative(self, u: Tensor) -> Tensor:
        p = torch.sigmoid(self.alpha * u)
        return self.alpha * p * (1 - p)

    def primitive(self, u: Tensor) -> Tensor:
        return torch.sigmoid(self.alpha * u)


class Gaussian(Surrogate):
    """Derivative exp(-u^2 / (2 sigma^2)) / (sigma sqrt(2 pi)): a normal density around the
    threshold.

    `sigma` (0.4) in units of the membrane potential, > 0. Source: Yin et al., Nature Machine
    Intelligence 2021.
    """

    def __init__(self, sigma: float = 0.4, *, strict: bool = False, spiking: bool = True):
        super().__init__(strict=strict, spiking=spiking)
        self.sigma = _positive("sigma", sigma)

    def derivative(self, u: Tensor) -> Tensor:
        return torch.exp(u * u * (-0.5 / self.sigma**2)) * (
            1 / (self.sigma * math.sqrt(2 * math.pi))
        )

    def primitive(self, u: Tensor) -> Tensor:
        return 0.5 * (1 + torch.erf(u * (1 / (self.sigma * math.sqrt(2)))))


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}={value!r}: expected a positive number")
    return float(value)
