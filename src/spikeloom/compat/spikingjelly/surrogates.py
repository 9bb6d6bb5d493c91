"""SpikingJelly's surrogate gradients: constants, derivative and smooth function of each.

    s = Theta(u >= 0),   dL/du = dL/ds * derivative(u)

They are surrogates of ours, so a node that uses one compiles; `spiking=False` puts the smooth
function itself out.
"""

import math
import re
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeloom.compat.spikingjelly.dialects import Dialect
from spikeloom.neurons.surrogate import Surrogate


class Shape(NamedTuple):
    """A surrogate as data. `since`: the last part of the first version that has it."""

    constants: dict[str, Any]
    derivative: Callable[..., Tensor]
    primitive: Callable[..., Tensor] | None = None
    since: int = 2


def _fourier(u: Tensor, n: int, T_period: float) -> Tensor:
    w = math.pi * 2.0 / T_period
    waves = [torch.cos((2 * i - 1.0) * w * u) for i in range(1, n)]
    return sum(waves, torch.zeros_like(u)) * (4.0 / T_period)


def _fourier_wave(u: Tensor, n: int, T_period: float) -> Tensor:
    w = math.pi * 2.0 / T_period
    waves = [torch.sin((2 * i - 1.0) * w * u) / (2 * i - 1.0) for i in range(1, n)]
    return 0.5 + 2.0 / math.pi * sum(waves, torch.zeros_like(u))


def _sided(u: Tensor) -> Tensor:
    """1 for u >= 0, -1 below."""
    return (u >= 0).to(u) * 2.0 - 1.0


def _logistic(u: Tensor, alpha: float) -> Tensor:
    p = torch.sigmoid(u * alpha)
    return (1.0 - p) * p * alpha


def _leaky_pieces(u: Tensor, w: float, c: float) -> Tensor:
    middle = u / (2 * w) + 1 / 2
    return torch.where(u < -w, c * u + c * w, torch.where(u > w, c * u + (1 - c * w), middle))


def _exponential(u: Tensor, alpha: float) -> Tensor:
    side = _sided(u)
    return (u >= 0).to(u) - (side * u * -alpha).exp() / 2.0 * side


def _heavy_tail(u: Tensor, alpha: float) -> Tensor:
    side = _sided(u)
    return (u >= 0).to(u) - side * (0.5 * (1.0 + 2.0 / (alpha - 1.0) * u * side) ** (1.0 - alpha))


SHAPES: dict[str, Shape] = {
    "PiecewiseQuadratic": Shape(
        {"alpha": 1.0},
        lambda u, alpha: torch.where(u.abs() > 1 / alpha, 0.0, -(alpha**2) * u.abs() + alpha),
        lambda u, alpha: (
            (u > 1.0 / alpha).to(u)
            + (u.abs() <= 1.0 / alpha).to(u)
            * (-(alpha**2) / 2 * u * u * u.sign() + alpha * u + 0.5)
        ),
    ),
    "PiecewiseExp": Shape(
        {"alpha": 1.0}, lambda u, alpha: alpha / 2 * (-alpha * u.abs()).exp(), _exponential
    ),
    "Sigmoid": Shape({"alpha": 4.0}, _logistic, lambda u, alpha: (u * alpha).sigmoid()),
    "SoftSign": Shape(
        {"alpha": 2.0},
        lambda u, alpha: 1 / (2 * alpha * (1 / alpha + u.abs()) ** 2),
        lambda u, alpha: (F.softsign(u * alpha) + 1.0) / 2.0,
    ),
    "SuperSpike": Shape({"alpha": 1.0}, lambda u, alpha: alpha / (1 + u.abs()) ** 2, None, 100),
    "ATan": Shape(
        {"alpha": 2.0},
        lambda u, alpha: alpha / 2 / (1 + (math.pi / 2 * alpha * u) ** 2),
        lambda u, alpha: (math.pi / 2 * alpha * u).atan() / math.pi + 0.5,
    ),
    "NonzeroSignLogAbs": Shape(
        {"alpha": 1.0},
        lambda u, alpha: 1 / (1 / alpha + u.abs()),
        lambda u, alpha: _sided(u) * (alpha * _sided(u) * u + 1).log(),
    ),
    "Erf": Shape(
        {"alpha": 2.0},
        lambda u, alpha: (-((u * alpha) ** 2)).exp() * (alpha / math.sqrt(math.pi)),
        lambda u, alpha: torch.erfc(-alpha * u) / 2.0,
    ),
    "PiecewiseLeakyReLU": Shape(
        {"w": 1.0, "c": 0.01}, lambda u, w, c: torch.where(u.abs() < w, 1 / w, c), _leaky_pieces
    ),
    "PiecewiseLeakyReLU 2": Shape(
        {"w": 1.0, "c": 0.01},
        lambda u, w, c: torch.where(u.abs() < w, 1 / (2 * w), c),
        _leaky_pieces,
    ),
    "SquarewaveFourierSeries": Shape({"n": 2, "T_period": 8}, _fourier, _fourier_wave, 8),
    "S2NN": Shape(
        {"alpha": 4.0, "beta": 1.0},
        lambda u, alpha, beta: torch.where(u < 0.0, _logistic(u, alpha), beta / (u + 1.0)),
        lambda u, alpha, beta: torch.where(
            u < 0.0, torch.sigmoid(u * alpha), beta * torch.log((u + 1.0).abs() + 1e-05) + 0.5
        ),
        9,
    ),
    "QPseudoSpike": Shape(
        {"alpha": 2.0},
        lambda u, alpha: (1 + 2 / (alpha - 1) * u.abs()) ** -alpha,
        _heavy_tail,
        9,
    ),
    "LeakyKReLU": Shape(
        {"leak": 0.0, "k": 1.0},
        lambda u, leak, k: torch.where(u >= 0.0, k, leak),
        lambda u, leak, k: torch.where(u >= 0.0, k, leak) * u,
        13,
    ),
    "FakeNumericalGradient": Shape(
        {"alpha": 0.3}, lambda u, alpha: torch.clamp_max(_sided(u) / u, alpha), None, 13
    ),
    "LogTailedReLU": Shape(
        {"alpha": 0.0},
        lambda u, alpha: torch.where(u > 1.0, 1.0 / u, torch.where(u <= 0.0, alpha, 1.0)),
        lambda u, alpha: torch.where(
            u > 1.0, torch.log(u.clamp_min(1.0)) + 1.0, F.leaky_relu(u, alpha)
        ),
        13,
    ),
    "Rect": Shape(
        {"alpha": 1.0},
        lambda u, alpha: (u.abs() < 0.5 / alpha).to(u) * alpha,
        lambda u, alpha: torch.clamp(alpha * u + 0.5, min=0.0, max=1.0),
        100,
    ),
}
_LATE_ORDER = {"LeakyKReLU": ("spiking", "leak", "k")}
"""Where 0.0.0.0.13 and .14 have another order of arguments."""


class Shaped(Surrogate):
    """A surrogate of SpikingJelly's; also the base of those that users write for it.

    One of the user's own gives `spiking_function(x, alpha)` and `primitive_function(x, alpha)`;
    what it computes is called as it is.
    """

    dialect: ClassVar[Dialect]
    form: ClassVar[str] = ""
    """Its name in `SHAPES`."""
    constants: ClassVar[dict[str, Any]] = {}
    order: ClassVar[tuple[str, ...]] = ("alpha", "spiking")
    quiet: ClassVar[bool] = False

    def __init__(self, *args: Any, learnable: bool = False, **options: Any) -> None:
        given = dict(zip(self.order, args, strict=False)) | options
        super().__init__(spiking=bool(given.pop("spiking", True)))
        values = {**self.constants, **given}
        unknown = sorted(set(values) - set(self.constants)) if self.form else []
        if unknown:
            raise TypeError(f"{type(self).__name__} has no argument {', '.join(unknown)}")
        if learnable and not (self.dialect.learns_alpha and type(self).__name__ == "ATan"):
            raise TypeError(
                f"{type(self).__name__}(learnable=True): in SpikingJelly only ATan of 0.0.0.0.2 "
                "learns its steepness; run as that version, or use spikeloom.ATan(learnable=True)"
            )
        self.learnable = learnable
        self.names = tuple(values)
        for name, value in values.items():
            if learnable:
                self.register_parameter(name, nn.Parameter(torch.tensor(float(value))))
            elif self.dialect.buffers_alpha and self.form and name == "alpha":
                self.register_buffer(name, torch.tensor(float(value)))
                self._number = float(value)
            else:
                setattr(self, name, value)

    def _load_from_state_dict(self, *args: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super()._load_from_state_dict(*args)
        if "alpha" in self._buffers:
            self._number = float(self._buffers["alpha"])  # type: ignore[arg-type]

    def set_spiking_mode(self, spiking: bool) -> None:
        self.spiking = spiking

    def coefs(self) -> dict[str, Tensor]:
        return {"alpha": self.alpha} if self.learnable else {}  # type: ignore[dict-item]

    def _constants(self, constants: dict[str, Any]) -> dict[str, Any]:
        if constants:
            return constants
        if "alpha" in self._buffers:
            return {"alpha": self._number}
        return {name: getattr(self, name) for name in self.names}

    def derivative(self, u: Tensor, **coefs: Any) -> Tensor:
        return SHAPES[self.form].derivative(u, **self._constants(coefs))

    def coef_derivatives(self, u: Tensor, *, alpha: Tensor) -> dict[str, Tensor]:
        return {"alpha": u / 2 / (1 + (math.pi / 2 * alpha * u) ** 2)}

    def primitive(self, u: Tensor, **coefs: Any) -> Tensor:
        smooth = SHAPES[self.form].primitive
        if smooth is None:
            raise NotImplementedError(f"{type(self).__name__} has no smooth function")
        return smooth(u, **self._constants(coefs))

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.quiet and not self.training:
            return (x >= 0).to(x)
        if not self.form:
            function = self.spiking_function if self.spiking else self.primitive_function
            return function(x, *(getattr(self, name) for name in self.names))  # type: ignore[no-any-return]
        if not self.spiking:
            return self.primitive(x)
        return super().forward(x)

    @staticmethod
    def spiking_function(x: Tensor, *constants: Any) -> Tensor:
        raise NotImplementedError

    @staticmethod
    def primitive_function(x: Tensor, *constants: Any) -> Tensor:
        raise NotImplementedError

    def extra_repr(self) -> str:
        shown = [f"{name}={getattr(self, name)}" for name in self.names]
        return ", ".join([*shown, f"spiking={self.spiking}"])


def heaviside(x: Tensor) -> Tensor:
    return (x >= 0).to(x)


def check_manual_grad(primitive: Any, spiking: Any, *args: Any, **options: Any) -> None:
    """Print where the derivative of `primitive` and the gradient of `spiking` differ most."""
    grads = []
    for function in (primitive, spiking):
        x = torch.arange(-2, 2, 32 / 8192).requires_grad_()
        function(x, *args, **options).sum().backward()
        grads.append(x.grad)
    error = (grads[0] - grads[1]).abs()
    print("max error", error.max(), "occurs at", torch.arange(-2, 2, 32 / 8192)[error.argmax()])


def namespace(dialect: Dialect) -> dict[str, Any]:
    """The names of `surrogate` in a version of SpikingJelly."""
    module = f"{__name__.rpartition('.')[0]}.{dialect.package}.surrogate"
    habits = {"dialect": dialect, "quiet": dialect.quiet_eval, "__module__": module}
    base = type("SurrogateFunctionBase", (Shaped,), habits)
    few = {"order": ("spiking",), **habits}
    several = type("MultiArgsSurrogateFunctionBase", (base,), few)
    classes: dict[str, Any] = {"SurrogateFunctionBase": base, "heaviside": heaviside}
    classes |= {"MultiArgsSurrogateFunctionBase": several, "check_manual_grad": check_manual_grad}
    for name, shape in SHAPES.items():
        if dialect.number < shape.since or " " in name:
            continue
        if name == "Sigmoid":
            shape = shape._replace(constants={"alpha": dialect.sigmoid_alpha})
        order = (*shape.constants, "spiking")
        members = {**habits, "form": _form(name, dialect), "constants": shape.constants}
        if dialect.learns_alpha and name != "ATan":
            members["quiet"] = False
        members["order"] = order if dialect.refits else _LATE_ORDER.get(name, order)
        parent = base if tuple(shape.constants) == ("alpha",) else several
        classes[name] = type(name, (parent,), members)
        classes[_small(name)] = _functional(classes[name], _small(name), module)
    return classes


def _form(name: str, dialect: Dialect) -> str:
    """The formula of a surrogate in a version: 2.0 changed one of them."""
    return f"{name} 2" if dialect.refits and f"{name} 2" in SHAPES else name


def _small(name: str) -> str:
    """`PiecewiseLeakyReLU` as `piecewise_leaky_relu`: the autograd Function beside the class."""
    name = name.replace("ReLU", "Relu").replace("ATan", "Atan")
    return re.sub("(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _functional(kind: Any, name: str, module: str) -> type:
    """`sigmoid.apply(x, alpha)`, and the functions that hang at the class."""
    shape = SHAPES[kind.form]

    def spiking_function(x: Tensor, *constants: Any) -> Tensor:
        return kind(**dict(zip(shape.constants, constants, strict=False)))(x)  # type: ignore[no-any-return]

    def backward(grad_output: Tensor, x: Tensor, *constants: Any) -> Tensor:
        return grad_output * shape.derivative(x, *constants)

    kind.spiking_function = staticmethod(spiking_function)
    kind.backward = staticmethod(backward)
    if shape.primitive is not None:
        kind.primitive_function = staticmethod(shape.primitive)
    return type(name, (), {"apply": staticmethod(spiking_function), "__module__": module})
