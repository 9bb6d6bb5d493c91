"""Neurons of NIR graphs whose constants fit no class of the library."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeloom.errors import ExportError
from spikeloom.neurons import IF, LI, LIF, ATan, CuLIF, Neuron


class EulerLIF(Neuron):
    """LIF or, with `tau_syn`, current-based LIF with constants per neuron, by forward Euler steps:

        i_t = i_{t-1} + ks (w_in x_t - i_{t-1})                i_t = x_t without `tau_syn`
        h_t = v_{t-1} + k ((v_leak - v_{t-1}) + r i_t),        k = dt / tau,  ks = dt / tau_syn
        s_t = Theta(h_t - v_threshold), strictly               v_t = (1 - s_t) h_t + s_t v_reset

    All constants are tensors in the shape of a sample, or of one element, `tau` in time steps.
    """

    observed = ("h",)
    delay = 0
    """How many delays of a graph are in it, as `CuLIF`'s."""

    def __init__(self, fires: bool = True, **constants: Tensor) -> None:
        super().__init__(surrogate=ATan(strict=True))
        self.fires = fires
        self.current = "tau_syn" in constants
        self.states = ("v", "i") if self.current else ("v",)
        self.tau: Tensor
        self.tau_syn: Tensor
        for name, value in constants.items():
            self.register_buffer(name, value)

    def coefs(self) -> dict[str, Tensor]:
        names = ("r", "v_leak", *(("v_threshold", "v_reset") if self.fires else ()))
        values = {name: getattr(self, name) for name in names} | {"k": 1 / self.tau}
        if self.current:
            values |= {"ks": 1 / self.tau_syn, "w_in": self.w_in}
        return values

    def step(self, x: Tensor, v: Tensor, *others: Tensor, **c: Tensor) -> tuple[Tensor, ...]:
        i = x
        if self.current:
            i = others[0] + c["ks"] * (c["w_in"] * x - others[0])
        h = v + c["k"] * ((c["v_leak"] - v) + c["r"] * i)
        s = self.surrogate(h - c["v_threshold"]) if self.fires else h
        after = (1 - s) * h + s * c["v_reset"] if self.fires else h
        return (s, after, *((i,) if self.current else ()), h)

    def arrays(self, dt: float) -> dict[str, Tensor]:
        """As NIR has them."""
        if self.current or not self.fires:
            raise ExportError("EulerLIF goes back to NIR as LIF alone")
        return {
            "tau": self.tau.double() * dt,
            **{name: getattr(self, name) for name in ("r", "v_leak", "v_threshold", "v_reset")},
        }


def of_arrays(name: str, node: Any, dt: float, late: bool) -> Neuron:
    """A neuron of a graph that others wrote: one of the library where its constants are one for
    the layer and fit, else an `EulerLIF`. `late`: a delay of one step stands before it."""
    kind = type(node).__name__
    values = {
        key: np.asarray(value, dtype=np.float64)
        for key, value in vars(node).items()
        if isinstance(value, np.ndarray | float)
    }
    same = {key: v.flat[0] for key, v in values.items() if np.ptp(v) == 0}
    uniform = len(same) == len(values)
    strict = {"surrogate": ATan(strict=True)}
    fires = {"v_threshold": same.get("v_threshold"), "v_reset": same.get("v_reset"), **strict}
    rests = uniform and same.get("v_leak", same.get("v_reset", 0.0)) == same.get("v_reset", 0.0)
    if kind == "IF":
        if uniform and np.isclose(same["r"] * dt, 1, rtol=1e-6):
            return IF(**fires).eval()
        raise ExportError(
            f"{name}: an IF with r other than 1 / dt = {1 / dt:g}: give the graph's dt"
        )
    if kind in ("LIF", "LI"):
        steps = same.get("tau", 0.0) / dt
        r = same.get("r", 0.0)
        decays = bool(np.isclose(r, 1))
        if rests and steps >= 1 and (decays or np.isclose(r, steps)):
            if kind == "LI":
                return LI(float(np.float32(steps)), decay_input=decays).eval()
            return LIF(float(np.float32(steps)), decay_input=decays, **fires).eval()
        return _euler(values, kind == "LIF", dt)
    if kind in ("CubaLIF", "CubaLI"):
        gain = same.get("w_in", 0) * dt / same.get("tau_syn", 1)
        if kind == "CubaLIF" and late and rests and np.allclose((same["r"], gain), 1):
            taus = (-1 / np.log1p(-dt / same[key]) for key in ("tau_mem", "tau_syn"))
            return CuLIF(*map(float, taus), **fires).eval()
        values["tau"] = values.pop("tau_mem")
        return _euler(values, kind == "CubaLIF", dt)
    raise ExportError(f"{name}: {kind} has no form here")


def _euler(values: dict[str, np.ndarray], fires: bool, dt: float) -> EulerLIF:
    scaled = {key: v / dt if key.startswith("tau") else v for key, v in values.items()}
    tensors = {key: torch.from_numpy(np.asarray(v, np.float32)) for key, v in scaled.items()}
    return EulerLIF(fires, **tensors).eval()
