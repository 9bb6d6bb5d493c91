"""Networks of snnTorch and Norse as networks of ours: exact, or refused with the reason.

    net = from_snntorch(torch.nn.Sequential(...))     their neurons with init_hidden=True
    net = from_norse(norse.torch.SequentialState(...))

The answer takes the whole sequence `[T, B, ...]` and starts every call at rest. Weights and learned
constants are copies. A surrogate is converted if its gradient is that of one of ours, which is
tried out; spikes are equal where both add up in the same order.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikeloom.errors import SpikeloomError
from spikeloom.neurons import ATan, FastSigmoid, Neuron, Sigmoid, Surrogate, Triangle
from spikeloom.nn import BatchNorm, Sequential


class ConversionError(SpikeloomError):
    """A network of another library that has no exact counterpart here."""


class DelayedReset(Neuron):
    """`Leaky` and `Synaptic` of snnTorch: the reset of a spike comes one step later.

    r_t = Theta(m_{t-1} - v_th), without gradient
    i_t = alpha i_{t-1} + x_t                       (no current: i_t = x_t)
    m_t = beta m_{t-1} + i_t - r_t v_th             reset "subtract"
    m_t = beta (1 - r_t) m_{t-1} + i_t              reset "zero"; with a current (1 - r_t) m_t
    s_t = Theta(m_t - v_th),  Theta(u) = 1 for u > 0
    """

    def __init__(
        self, constants: dict[str, Tensor], learned: set[str], reset: str, surrogate: Surrogate
    ) -> None:
        super().__init__(surrogate=surrogate)
        for name, value in constants.items():
            if name in learned:
                self.register_parameter(name, nn.Parameter(value.detach().clone()))
            else:
                self.register_buffer(name, value.detach().clone())
        self.has_current = "alpha" in constants
        self.states = ("m", "i") if self.has_current else ("m",)
        self.reset = reset

    def _check(self, x: Tensor, state: Any, record: tuple[str, ...]) -> None:
        super()._check(x, state, record)
        if x.dim() != 3 and any(value.dim() for value in self.coefs().values()):
            raise ValueError(
                f"input of shape {list(x.shape)}: beta, alpha or threshold are a value for each "
                "feature of [T, B, features], which snnTorch spreads over the last axis instead"
            )

    def coefs(self) -> dict[str, Tensor]:
        coefs: dict[str, Any] = {"beta": self.beta.clamp(0, 1), "threshold": self.threshold}  # type: ignore[operator]
        return coefs | ({"alpha": self.alpha.clamp(0, 1)} if self.has_current else {})  # type: ignore[operator]

    def step(
        self,
        x: Tensor,
        m: Tensor,
        i: Tensor | None = None,
        *,
        beta: Tensor,
        threshold: Tensor,
        alpha: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        r = (m - threshold > 0).to(m).detach()
        if i is None or alpha is None:
            if self.reset == "zero":
                m = (1 - r) * m
            m = beta * m + x
        else:
            i = alpha * i + x
            m = beta * m + i
            m = m - m * r if self.reset == "zero" else m
        if self.reset == "subtract":
            m = m - r * threshold
        s = self.surrogate(m - threshold)
        return (s, m) if i is None else (s, m, i)


class DrivenLeak(Neuron):
    """`LIF`, `LIFBox`, `LI`, `LIBox` and `IAF` of Norse, steps of `dt`.

        i_t = i_{t-1} + x_t                             (no current: i_t = x_t)
        h_t = v_{t-1} + a (v_leak - v_{t-1} + i_t),     a = dt / tau_mem;  IAF: h_t = v_{t-1} + i_t
        s_t = Theta(h_t - v_th),  v_t = (1 - s_t) h_t + s_t v_reset       (LI: h_t is the output)
        i_t <- i_t - b i_t,                             b = dt / tau_syn

    v starts at v_leak, that of IAF at v_reset.
    """

    def __init__(
        self, constants: dict[str, float], surrogate: Surrogate | None, *, subtracts: bool = False
    ) -> None:
        super().__init__(surrogate=surrogate)
        self.fires = surrogate is not None  # type: ignore[misc]
        self.has_current = "b" in constants
        self.states = ("v", "i") if self.has_current else ("v",)
        self.leaks = "a" in constants
        self.a, self.b = constants.get("a", 0.0), constants.get("b", 0.0)
        self.v_leak = constants.get("v_leak", 0.0)
        self.v_th, self.v_reset = constants.get("v_th", 1.0), constants.get("v_reset", 0.0)
        self.subtracts = subtracts
        self.start = self.v_leak if self.leaks else self.v_reset

    def rest(self) -> dict[str, float]:
        return {"v": self.start}

    def step(self, x: Tensor, v: Tensor, i: Tensor | None = None) -> tuple[Tensor, ...]:
        drive = x if i is None else i + x
        h = v + self.a * (self.v_leak - v + drive) if self.leaks else v + drive
        after = () if i is None else (drive + -self.b * drive,)
        if not self.fires:
            return h, h, *after
        s = self.surrogate(h - self.v_th)
        kept = (1 - s) * h
        v = kept + s * (h - self.v_th) if self.subtracts else kept + s * self.v_reset
        return s, v, *after


def _surrogate(function: Callable[[Tensor], Tensor], numbers: list[float]) -> Surrogate:
    """The surrogate of ours with the spikes and the gradient of `function`; `numbers`: what its
    steepness may be.
    """

    def trial(surrogate: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        u = torch.linspace(-2, 2, 81, requires_grad=True)
        s = surrogate(u)
        if s.requires_grad:
            s.sum().backward()
        return s.detach(), torch.zeros_like(u) if u.grad is None else u.grad

    try:
        spikes, slope = trial(function)
    except Exception as error:
        raise ConversionError(f"the surrogate {function!r} cannot be tried out: {error}") from error
    for kind in (ATan, FastSigmoid, Sigmoid, Triangle):
        for number in {*numbers, 1.0}:
            if number > 0:
                candidate = kind(number, strict=True)
                s, g = trial(candidate)
                if torch.equal(s, spikes) and torch.allclose(g, slope, rtol=1e-3, atol=1e-5):
                    return candidate
    raise ConversionError(
        f"the surrogate {getattr(function, '__qualname__', function)!r} has the gradient of none "
        f"of ATan, FastSigmoid, Sigmoid, Triangle with a steepness of {sorted(numbers)}: take one "
        "that has, or write a sl.Surrogate"
    )


def _numbers(function: Any) -> list[float]:
    """The numbers that a surrogate made by a function keeps in its closure."""
    cells = getattr(function, "__closure__", None) or ()
    values = [cell.cell_contents for cell in cells]
    return [float(value) for value in values if isinstance(value, (int, float))]


def _snntorch_neuron(neuron: Any) -> Neuron:
    kind = type(neuron).__name__
    if kind not in ("Leaky", "Synaptic"):
        raise ConversionError(
            f"{kind} of snnTorch is not converted: Leaky and Synaptic are; write it as a sl.Neuron"
        )
    for name in ("inhibition", "state_quant", "surrogate_disable"):
        if getattr(neuron, name):
            raise ConversionError(f"{kind}({name}={getattr(neuron, name)!r}) is not converted")
    if float(neuron.graded_spikes_factor) != 1 or neuron.graded_spikes_factor.requires_grad:
        raise ConversionError(f"{kind} with graded spikes is not converted: ours are 0 or 1")
    if not neuron.reset_delay:
        raise ConversionError(f"{kind}(reset_delay=False) is not converted")
    names = ["beta", "threshold", *(["alpha"] if kind == "Synaptic" else [])]
    constants = {name: getattr(neuron, name).float() for name in names}
    for name, value in constants.items():
        if value.numel() > 1 and value.dim() > 1:
            raise ConversionError(f"{kind}.{name} of shape {list(value.shape)} is not converted")
    constants = {n: v.reshape(()) if v.numel() == 1 else v for n, v in constants.items()}
    learned = {name for name in names if getattr(neuron, name).requires_grad}
    surrogate = _surrogate(neuron.spike_grad, _numbers(neuron.spike_grad))
    return DelayedReset(constants, learned, neuron.reset_mechanism, surrogate)


def _norse_neuron(cell: Any) -> Neuron:
    kind = type(cell).__name__.removesuffix("Cell")
    if kind not in ("LIF", "LIFBox", "LI", "LIBox", "IAF"):
        raise ConversionError(
            f"{type(cell).__name__} of Norse is not converted: LIF, LIFBox, LI, LIBox and IAF are, "
            "without recurrent weights"
        )
    p, dt = cell.p, cell.dt
    constants: dict[str, Any] = {}
    if kind != "IAF":
        constants |= {"a": dt * p.tau_mem_inv, "v_leak": p.v_leak}
    if kind in ("LIF", "LI"):
        constants["b"] = dt * p.tau_syn_inv
    fires = kind not in ("LI", "LIBox")
    if fires:
        constants |= {"v_th": p.v_th, "v_reset": p.v_reset}
    for name, value in constants.items():
        if isinstance(value, Tensor) and (value.numel() != 1 or value.requires_grad):
            raise ConversionError(
                f"{type(cell).__name__}: {name} is a vector or learned, and ours is one number: "
                "use sl.PLIF, or a sl.Neuron with coefs"
            )
    reset = getattr(p, "reset_method", None)
    name = getattr(reset, "__name__", "reset_value")
    if name not in ("reset_value", "reset_subtract"):
        raise ConversionError(f"{type(cell).__name__}: reset_method {name!r} is not converted")
    surrogate = None
    if fires:
        from norse.torch.functional.threshold import threshold  # type: ignore[import-not-found]

        alpha = float(p.alpha)
        surrogate = _surrogate(lambda u: threshold(u, p.method, p.alpha), [alpha])
    values = {n: float(v) for n, v in constants.items()}
    return DrivenLeak(values, surrogate, subtracts=name == "reset_subtract")


def _converted(net: nn.Module, package: str, neuron: Callable[[Any], Neuron]) -> nn.Module:
    if type(net).__module__.partition(".")[0] == package and not isinstance(net, nn.Sequential):
        inner = getattr(net, "lifted_module", None)  # Norse's Lift: the time loop, which is ours
        return neuron(net) if inner is None else _converted(inner, package, neuron)
    if isinstance(net, nn.Sequential):
        layers = {name: _converted(layer, package, neuron) for name, layer in net.named_children()}
        chain = Sequential(*layers.values())
        chain.training = net.training
        return chain
    if isinstance(net, nn.modules.batchnorm._BatchNorm):
        return _per_step(net)
    if any(type(m).__module__.partition(".")[0] == package for m in net.modules()):
        raise ConversionError(
            f"{type(net).__name__} has a forward of its own around neurons of {package}: convert "
            "its neurons one by one, or write the network as a Sequential"
        )
    return copy.deepcopy(net)


def _per_step(norm: Any) -> nn.Module:
    """Their loops give a BatchNorm one step at a time, and so does ours of that name."""
    if not (norm.affine and norm.track_running_stats and norm.momentum is not None):
        raise ConversionError(f"{norm}: only with weights, running statistics and a momentum")
    made = BatchNorm(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    made.load_state_dict(dict(norm.state_dict()), strict=False)
    made.train(norm.training)
    return made


def from_snntorch(net: nn.Module) -> nn.Module:
    """A `Leaky` or `Synaptic` of snnTorch, or an `nn.Sequential` of layers and these (with
    `init_hidden=True`), on `[T, B, ...]`. Raises `ConversionError`.

    Constants with an axis are for inputs `[T, B, features]` alone: others raise `ValueError`.
    """
    return _converted(net, "snntorch", _snntorch_neuron)


def from_norse(net: nn.Module) -> nn.Module:
    """A feed-forward cell or layer of Norse (`LIF`, `LIFBox`, `LI`, `LIBox`, `IAF`), or a
    `SequentialState` of layers and these, on `[T, B, ...]`. Raises `ConversionError`.
    """
    return _converted(net, "norse", _norse_neuron)
