"""Gated leaky integrate-and-fire: learned gates mix two forms of leak, integration, and reset.

    u_t = (1 - A (1 - k)) u_{t-1} (1 - G s_{t-1}) - (1 - A) l
          + (1 - B (1 - c_t)) x_t - (1 - G) r s_{t-1}
    s_t = Theta(u_t - th)                     Theta(z) = 1 for z > 0;  u_0 = s_0 = 0

    A = 1  exponential leak, factor k         A = 0  linear leak, l per step
    B = 1  input weighted by c_t              B = 0  plain input
    G = 1  hard reset, to 0                   G = 0  soft reset, by r

Source: Yao, Li, Mo, Cheng, "GLIF: A Unified Gated Leaky Integrate-and-Fire Neuron for SNNs",
NeurIPS 2022, and the authors' code. There everything is learned through a sigmoid, sg(raw), and
lies in (0, 1).
"""

import math
from typing import Any, Literal, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeloom.compiler.function import is_exported
from spikeloom.neurons.neuron import GivenState, Neuron, NeuronOptions
from spikeloom.neurons.surrogate import Rectangle

Gates = Literal["soft", "hard", "static_soft", "static_hard"]
GATES: tuple[Gates, ...] = ("soft", "hard", "static_soft", "static_hard")

RANDOM_GATE = 0.1
"""Raw gates that start at random are uniform between minus and plus this."""


class MembraneOptions(NeuronOptions, total=False):
    """Initial membrane parameters of both gated neurons: see `GLIF`."""

    tau: float
    threshold: float
    leak: float
    conductance: float


class GatedOptions(MembraneOptions, total=False):
    """What `GLIF` adds to them."""

    time_wise: bool
    learn_membrane: bool


class Gated(Neuron):
    """What the gated neurons share: their membrane parameters, raw, and how these depend on time.

    One state, what is left of the potential after leak and reset:

        h_t = v_{t-1} - drop + gain_t x_t
        s_t = Theta(h_t - threshold)
        v_t = decay h_t (1 - hard s_t) - soft s_t

    which is the equation above with decay = 1 - A (1 - k), drop = (1 - A) l, hard = G,
    gain_t = 1 - B (1 - c_t), soft = (1 - G) r; h is the paper's u.
    """

    states = ("v",)
    observed = ("h",)

    tau: Tensor
    Vth: Tensor
    leak: Tensor
    reVth: Tensor
    conduct: Tensor

    def __init__(
        self,
        channels: int | None,
        time_steps: int | None,
        *,
        tau: float = 0.25,
        threshold: float = 0.5,
        leak: float = 0.0625,
        conductance: float = 0.5,
        time_wise: bool = False,
        learn_membrane: bool = True,
        **options: Unpack[NeuronOptions],
    ) -> None:
        options["surrogate"] = options.get("surrogate") or Rectangle(strict=True)
        super().__init__(**options)
        for name, size in (("channels", channels), ("time_steps", time_steps)):
            if size is not None and size < 1:
                raise ValueError(f"{name}={size}: expected 1 or more, or None")
        if time_wise and time_steps is None:
            raise ValueError("time_wise=True needs time_steps, the number of steps T")
        self.time_wise = time_wise
        self.per_step = time_steps is not None and learn_membrane
        width = () if channels is None else (channels,)
        time = () if time_steps is None else (time_steps,)
        shape = time + width if time_wise else width
        values = {"tau": tau, "Vth": threshold, "leak": leak, "reVth": threshold}
        for name, value in values.items():
            self._add(name, value, shape, learn=learn_membrane)
        # Constant conductances do not differ from step to step.
        self._add("conduct", conductance, time + width if learn_membrane else width, learn_membrane)

    def _add(self, name: str, value: float, shape: tuple[int, ...], learn: bool) -> None:
        raw = torch.full(shape, logit(name, value))
        if learn:
            self.register_parameter(name, nn.Parameter(raw))
        else:
            self.register_buffer(name, raw, persistent=False)

    def membrane(self) -> dict[str, Tensor]:
        """`tau`, `Vth`, `leak`, `reVth`, `conduct`, between 0 and 1."""
        names = ("tau", "Vth", "leak", "reVth", "conduct")
        return {name: getattr(self, name).sigmoid() for name in names}

    def constants(self) -> dict[str, Tensor]:
        """As they act, between 0 and 1: `decay` k (the parameter tau, which is no time constant),
        `threshold` th (Vth), `leak` l, `reset` r (reVth), `conductance` c (conduct)."""
        words = ("decay", "threshold", "leak", "reset", "conductance")
        return dict(zip(words, (v.detach() for v in self.membrane().values()), strict=True))

    @property
    def time_steps(self) -> int | None:
        """T, where a parameter has one value per step; else None, and any T will do."""
        return self.conduct.shape[0] if self.per_step else None

    @torch.no_grad()
    def interpolate_time(self, time_steps: int) -> None:
        """Make T = `time_steps`: raw parameters that are per step are interpolated linearly, the
        first and the last stay. They become new ones: do this before an optimizer is given them.

        Raises `ValueError` where T is free already, or `time_steps` is below 1.
        """
        if not self.per_step:
            raise ValueError(f"{type(self).__name__} has no per-step parameter: it takes any T")
        if time_steps < 1:
            raise ValueError(f"time_steps={time_steps}: expected 1 or more")
        names = ("tau", "Vth", "leak", "reVth", "conduct") if self.time_wise else ("conduct",)
        for name in names:
            raw = getattr(self, name)
            rows = raw.reshape(1, raw.shape[0], -1).transpose(1, 2)
            new = functional.interpolate(rows, time_steps, mode="linear", align_corners=True)
            new = new.transpose(1, 2).reshape(time_steps, *raw.shape[1:]).contiguous()
            setattr(self, name, nn.Parameter(new, requires_grad=raw.requires_grad))

    def _check(self, x: Tensor, state: GivenState, record: tuple[str, ...]) -> None:
        super()._check(x, state, record)
        name = type(self).__name__
        if self.time_steps is None:
            return
        if state and is_exported():
            return  # how many steps have passed is known only where the graph will run
        passed = int(state[-1]) if state else 0
        if state is not False and passed + x.shape[0] > self.time_steps:
            raise ValueError(
                f"{name} has one conductance for each of T={self.time_steps} time steps, and got "
                f"{x.shape[0]} more after {passed}: begin again with initial_state(x), or call "
                f"interpolate_time({passed + x.shape[0]})"
            )
        if state is False and x.shape[0] != self.time_steps:
            raise ValueError(
                f"{name} has one conductance for each of T={self.time_steps} time steps, and got "
                f"an input of {x.shape[0]}: build it with time_steps={x.shape[0]}, or call "
                f"interpolate_time({x.shape[0]})"
            )

    def fixed(self) -> dict[str, Any]:
        """Constants that are not learned are in no state dict: they are compared."""
        constants = super().fixed()
        if not isinstance(self.tau, nn.Parameter):
            constants |= {name: value.tolist() for name, value in self.membrane().items()}
        return constants

    def step(
        self,
        x: Tensor,
        v: Tensor,
        *,
        decay: Tensor,
        drop: Tensor,
        gain: Tensor,
        soft: Tensor,
        threshold: Tensor,
        hard: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """The step above, `(s, v, h)`; without `hard` it is 1."""
        h = v - drop + x * gain
        s = self.surrogate(h - threshold)
        return s, decay * h * (1 - (s if hard is None else hard * s)) - soft * s, h

    def _after_this_step(self, value: Tensor) -> Tensor:
        """What step t needs of a per-step constant that the equation applies at step t + 1."""
        return value.roll(-1, 0) if self.time_wise else value

    def extra_repr(self) -> str:
        width = self.tau.shape[1:] if self.time_wise else self.tau.shape
        parts = [f"channels={width[0]}" if width else "one set per layer"]
        if self.time_steps is not None:
            parts.append(f"time_steps={self.time_steps}")
        return ", ".join(parts + ["time_wise=True"] * self.time_wise)


class GLIF(Gated):
    """The gated neuron of the equation above.

    `channels`: one set of parameters per channel (axis 2 of the input); None: one for the layer.
    `time_steps`: T, for a conductance of its own at each step, as published; None: one for all
        steps, and any T.
    `gates`, how the raw gate becomes A, B, G:
        "soft"         sg(raw), learned (the paper's neuron)
        "hard"         1 where sg(raw) > 0.5, else 0; learned: the gradient passes straight
                       through to sg(raw)
        "static_soft"  sg(raw), not learned
        "static_hard"  1 where raw > 0, else 0; not learned: the eight classical neurons
    `gate`: the initial (A, B, G), each in 0..1, mapped to 0.25..0.75: sg(raw) = 0.5 gate + 0.25;
        the default is the authors'. "random": raw uniform in [-0.1, 0.1), from torch's generator.
        The authors' layer-wise class negates the raw values, which is 1 - gate here.
    `tau` (0.25) k, `threshold` (0.5) th and initial r, `leak` (0.0625) l, `conductance` (0.5) c:
        unitless, between 0 and 1. CIFAR10-DVS: 0.5, 0.99999, 0.99999 / 32, 0.9.
    `time_wise`: k, th, l, r per step too.
    `learn_membrane=False`: these stay as they are, r = th, and only the gates are learned.
    `surrogate`: `Rectangle(1.0, strict=True)`, as published: derivative 1 where |u - th| < 0.5.
        Nothing is detached: reset spikes carry gradient.
    """

    alpha: Tensor
    beta: Tensor
    gamma: Tensor

    def __init__(
        self,
        channels: int | None,
        time_steps: int | None = None,
        *,
        gates: Gates = "soft",
        gate: tuple[float, float, float] | Literal["random"] = (0.6, 0.8, 0.6),
        **options: Unpack[GatedOptions],
    ) -> None:
        super().__init__(channels, time_steps, **options)
        if gates not in GATES:
            raise ValueError(f"gates={gates!r}: expected one of {', '.join(GATES)}")
        self.gates: Gates = gates
        learned = not gates.startswith("static")
        starts = (gate,) * 3 if isinstance(gate, str) else gate
        for name, start in zip(("alpha", "beta", "gamma"), starts, strict=True):
            raw = _raw_gate(name, start, () if channels is None else (channels,))
            # Frozen gates stay in the state dict, as in the authors' checkpoints.
            setattr(self, name, nn.Parameter(raw, requires_grad=learned))
        per_step = ("decay", "drop", "gain", "soft", "threshold") if self.time_wise else ("gain",)
        self.time_coefs = per_step * self.per_step

    def gate_values(self) -> tuple[Tensor, Tensor, Tensor]:
        """A, B, G."""
        return self._gate(self.alpha), self._gate(self.beta), self._gate(self.gamma)

    def _gate(self, raw: Tensor) -> Tensor:
        match self.gates:
            case "soft":
                return raw.sigmoid()
            case "hard":
                soft = raw.sigmoid()
                # Straight through; both sums are exact, since 1 - p is for p in (0.5, 1].
                return (soft > 0.5).to(soft.dtype) - soft.detach() + soft
            case "static_soft":
                return raw.detach().sigmoid()
            case "static_hard":
                return (raw.detach() > 0).to(raw.dtype)

    def coefs(self) -> dict[str, Tensor]:
        A, B, G = self.gate_values()
        value = self.membrane()
        return {
            "decay": self._after_this_step(1 - A * (1 - value["tau"])),
            "drop": (1 - A) * value["leak"],
            "gain": 1 - B * (1 - value["conduct"]),
            "soft": self._after_this_step((1 - G) * value["reVth"]),
            "hard": G,
            "threshold": value["Vth"],
        }

    @torch.no_grad()
    def constants(self) -> dict[str, Tensor]:
        """All eight as they act, between 0 and 1: gates `alpha` A, `beta` B, `gamma` G, and those
        of `Gated.constants`."""
        gates = dict(zip(("alpha", "beta", "gamma"), self.gate_values(), strict=True))
        return {name: value.detach() for name, value in gates.items()} | super().constants()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, gates={self.gates!r}"


class FusedGLIF(Gated):
    """The coarsely fused neuron of the paper, GLIF_f: both forms of everything, at full strength.

        u_t = k u_{t-1} (1 - s_{t-1}) - l + c_t x_t - r s_{t-1}       s_t = Theta(u_t - th)

    Arguments as for `GLIF`; per channel and per step unless told otherwise.
    """

    def __init__(
        self,
        channels: int | None,
        time_steps: int | None = None,
        **options: Unpack[MembraneOptions],
    ) -> None:
        super().__init__(channels, time_steps, **options)
        self.time_coefs = ("gain",) * self.per_step

    def coefs(self) -> dict[str, Tensor]:
        value = self.membrane()
        return {
            "decay": value["tau"],
            "drop": value["leak"],
            "gain": value["conduct"],
            "soft": value["reVth"],
            "threshold": value["Vth"],
        }


def logit(name: str, value: float) -> float:
    """The raw value whose sigmoid is `value`."""
    if not 0 < value < 1:
        raise ValueError(f"{name}={value!r}: expected a number between 0 and 1, both excluded")
    return math.log(value / (1 - value))


def _raw_gate(name: str, start: float | str, shape: tuple[int, ...]) -> Tensor:
    if start == "random":
        return torch.empty(shape).uniform_(-RANDOM_GATE, RANDOM_GATE)
    if isinstance(start, str) or not 0 <= start <= 1:
        raise ValueError(f'gate: {name}={start!r}: expected a number in 0..1, or gate="random"')
    return torch.full(shape, logit(name, 0.5 * start + 0.25))
