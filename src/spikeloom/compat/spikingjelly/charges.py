"""SpikingJelly's neurons: how each charges, and what else is its own.

`namespace(dialect)` makes the classes of a version: `LIFNode`, `MultiStepLIFNode`, ... Where a
formula can be written in two ways, it is written as SpikingJelly writes it, for the last bit.
"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spikeloom.compat.spikingjelly.dialects import Dialect
from spikeloom.compat.spikingjelly.fused import fusing
from spikeloom.compat.spikingjelly.nodes import POTENTIALS, TAIL, MultiStep, Node

_REST = {"v_rest": 0.0, "v_reset": -0.1}


class IntegrateFireCharge:
    deaf = True

    def neuronal_charge(self: Any, x: Tensor) -> None:
        self.v = self.v + x


class LeakyCharge:
    deaf = True
    arguments: ClassVar = {"tau": 2.0, "decay_input": True, **POTENTIALS, **TAIL}

    def neuronal_charge(self: Any, x: Tensor) -> None:
        v, zero = self.v, not self.v_reset
        above = v if zero else v - self.v_reset
        if self.decay_input:
            self.v = v + self.share(x - above)
        elif zero and not self.refits:
            self.v = v * self.remaining() + x
        else:
            self.v = v - self.share(above) + x

    def share(self: Any, value: Tensor) -> Tensor:
        return value / self.tau

    def remaining(self: Any) -> Any:
        return 1.0 - 1.0 / self.tau


class ParametricCharge(LeakyCharge):
    deaf = False
    arguments: ClassVar = {"init_tau": 2.0, "decay_input": True, **POTENTIALS, **TAIL}

    def built(self: Any, values: dict[str, Any]) -> None:
        init_tau = values.pop("init_tau")
        if not init_tau > 1:
            raise ValueError(f"init_tau={init_tau}: a time constant that is learned is above 1")
        self.w = nn.Parameter(torch.as_tensor(-math.log(init_tau - 1.0)))
        super().built(values)  # type: ignore[misc]

    def share(self: Any, value: Tensor) -> Tensor:
        return value * self.w.sigmoid()

    def remaining(self: Any) -> Any:
        return 1.0 - self.w.sigmoid()


class QuadraticCharge:
    arguments: ClassVar = {
        **{"tau": 2.0, "v_c": 0.8, "a0": 1.0, "v_threshold": 1.0},
        **{**_REST, **TAIL},
    }

    def neuronal_charge(self: Any, x: Tensor) -> None:
        v = self.v
        self.v = v + (x + self.a0 * (v - self.v_rest) * (v - self.v_c)) / self.tau


class ExponentialCharge:
    arguments: ClassVar = {
        **{"tau": 2.0, "delta_T": 1.0, "theta_rh": 0.8, "v_threshold": 1.0},
        **{**_REST, **TAIL},
    }

    def neuronal_charge(self: Any, x: Tensor) -> None:
        v = self.v
        rise = self.delta_T * torch.exp((v - self.theta_rh) / self.delta_T)
        self.v = v + (x + self.v_rest - v + rise) / self.tau


class GeneralCharge:
    arguments: ClassVar = {"a": 1.0, "b": 1.0, "c": 0.0, **POTENTIALS, **TAIL}

    def built(self: Any, values: dict[str, Any]) -> None:
        for name, value in values.items():
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float))

    def neuronal_charge(self: Any, x: Tensor) -> None:
        self.v = self.a * self.v + self.b * x + self.c


class IzhikevichCharge:
    """A second state, the recovery `w`."""

    arguments: ClassVar = {
        **{"tau": 2.0, "v_c": 0.8, "a0": 1.0, **POTENTIALS, "v_rest": -0.1, "w_rest": 0.0},
        **{"tau_w": 2.0, "a": 0.0, "b": 0.0, **TAIL},
    }

    def built(self: Any, values: dict[str, Any]) -> None:
        self.register_memory("w", float(values["w_rest"]))
        super().built(values)  # type: ignore[misc]

    def one_step(self: Any, x: Tensor) -> Tensor:
        for name in ("v", "w"):
            if isinstance(getattr(self, name), float):
                setattr(self, name, torch.full_like(x.data, getattr(self, name)))
        v, w = self.v, self.w
        v = v + (x + self.a0 * (v - self.v_rest) * (v - self.v_c) - w) / self.tau
        drive = self.a * (v - self.v_rest) - w
        w = w + (drive / self.tau_w if self.refits else 1.0 / self.tau_w * drive)
        self.v = v
        spike = self.neuronal_fire()
        kept = spike.detach() if self.detach_reset else spike
        if self.v_reset is None:
            self.v = v - kept * self.v_threshold
        else:  # before 2.0 what is added is not detached
            self.v = (1.0 - kept) * v + (kept if self.refits else spike) * self.v_reset
        self.w = w + self.b * spike
        return spike


class GainCharge:
    """KLIF: the potential is scaled by a learned `k` and cut off at 0."""

    arguments: ClassVar = {
        **{"scale_reset": False, "tau": 2.0, "decay_input": True},
        **{**POTENTIALS, **TAIL},
    }

    def built(self: Any, values: dict[str, Any]) -> None:
        super().built(values)  # type: ignore[misc]
        self.k = nn.Parameter(torch.as_tensor(1.0))

    def neuronal_charge(self: Any, x: Tensor) -> None:
        v = self.v
        above = v - (self.v_reset or 0.0)
        v = v + (x - above) / self.tau if self.decay_input else v - above / self.tau + x
        self.v = torch.relu(self.k * v)

    def neuronal_reset(self: Any, spike: Tensor) -> None:
        if not self.scale_reset:
            return super().neuronal_reset(spike)  # type: ignore[misc]
        spike = spike.detach() if self.detach_reset else spike
        if self.v_reset is not None:
            self.v = (1.0 - spike) * (self.v / self.k) + spike * self.v_reset
        elif self.refits:
            self.v = self.v / self.k - spike * (self.v_threshold / self.k)
        else:
            self.v = (self.v - spike * self.v_threshold) / self.k
        return None


_CHARGES: list[tuple[str, type, int, bool]] = [
    ("IFNode", IntegrateFireCharge, 2, True),
    ("LIFNode", LeakyCharge, 2, True),
    ("ParametricLIFNode", ParametricCharge, 5, True),
    ("QIFNode", QuadraticCharge, 7, False),
    ("EIFNode", ExponentialCharge, 7, True),
    ("GeneralNode", GeneralCharge, 9, True),
    ("IzhikevichNode", IzhikevichCharge, 13, False),
    ("KLIFNode", GainCharge, 14, False),
]
"""Name, equations, the last part of the first version that has it, and whether clock_driven has
`MultiStep` of that name (from the sixth on)."""


def namespace(dialect: Dialect, surrogates: dict[str, Any]) -> dict[str, Any]:
    """The classes of `neuron` in a version of SpikingJelly."""
    single, module = dialect.single, f"{__name__.rpartition('.')[0]}.{dialect.package}.neuron"
    base = {"dialect": dialect, "default_surrogate": surrogates["Sigmoid"], "__module__": module}
    for habit in ("keeps_spike", "deaf_eval", "refits", "restores"):
        base[habit] = getattr(dialect, habit)
    method = "forward" if single else "single_step_forward"
    step: dict[str, Any] = {method: fusing(Node.single_step_forward), "step_method": method}
    tail: dict[str, Any] = {"monitor_state": False} if dialect.monitors else {}
    if single and dialect.number >= 12:
        tail["cupy_fp32_inference"] = False
    if not single:
        tail = {"step_mode": "s", "store_v_seq": False}
        tail = tail if dialect.refits else {"step_mode": "s", "backend": "torch", **tail}
    root = type("BaseNode", (Node,), {**base, **step, "arguments": {**Node.arguments, **tail}})
    nodes: dict[str, Any] = {"BaseNode": root}
    for name, charge, since, many in _CHARGES:
        if dialect.number < since or (name == "GeneralNode" and not single):
            continue
        arguments = {**getattr(charge, "arguments", Node.arguments), **tail}
        if not dialect.decays_input:
            arguments.pop("decay_input", None)
        if name == "LIFNode":
            arguments["tau"] = dialect.lif_tau
        members = {"__module__": module, "arguments": arguments}
        if not dialect.decays_input:
            members["decay_input"] = True
        nodes[name] = type(name, (charge, root), members)
        if single and many and dialect.number >= 6:
            tails = {"backend": "torch"} | ({"lava_s_cale": 64} if dialect.number >= 12 else {})
            arguments = {key: value for key, value in arguments.items() if key not in tail}
            members = {"__module__": module, "arguments": {**arguments, **tails}}
            nodes[f"MultiStep{name}"] = type(f"MultiStep{name}", (MultiStep, nodes[name]), members)
    return nodes
