"""SpikingJelly's encoders: from numbers in [0, 1] to spikes."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeloom.compat.spikingjelly.memory import MemoryModule, StepModule


class StatelessEncoder(nn.Module, StepModule):
    def __init__(self, step_mode: str = "s") -> None:
        super().__init__()
        self.step_mode = step_mode


class StatefulEncoder(MemoryModule):
    """Encodes the first input after a reset, and hands the spikes out step by step."""

    def __init__(self, T: int, step_mode: str = "s") -> None:
        super().__init__()
        if not (isinstance(T, int) and T >= 1):
            raise ValueError(f"T={T!r}: expected a number of time steps")
        self.T = T
        self.step_mode = step_mode
        self.register_memory("spike", None)
        self.register_memory("t", 0)

    def single_step_forward(self, x: Tensor | None = None, *args: Any, **options: Any) -> Tensor:  # type: ignore[override]
        if self.spike is None:
            self.single_step_encode(x)
        t = self.t
        self.t = (t + 1) % self.T
        return self.spike[t]  # type: ignore[no-any-return]

    def single_step_encode(self, x: Any) -> None:
        self.encode(x)

    def encode(self, x: Any) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define encode(x)")

    def extra_repr(self) -> str:
        return f"T={self.T}"


class PeriodicEncoder(StatefulEncoder):
    def __init__(self, spike: Tensor, step_mode: str = "s") -> None:
        super().__init__(spike.shape[0], step_mode)
        self.encode(spike)
        self.set_reset_value("spike", spike)

    def encode(self, x: Tensor) -> None:
        self.spike, self.T = x, x.shape[0]


class LatencyEncoder(StatefulEncoder):
    """One spike per number, the earlier the larger it is."""

    def __init__(self, T: int, enc_function: str = "linear", step_mode: str = "s") -> None:
        super().__init__(T, step_mode)
        if enc_function not in ("linear", "log"):
            raise NotImplementedError(f"enc_function={enc_function!r}: expected linear or log")
        self.enc_function = enc_function
        self.alpha = math.exp(T - 1.0) - 1.0 if enc_function == "log" else 0.0

    def encode(self, x: Tensor) -> None:
        if self.enc_function == "log":
            when = self.T - 1.0 - torch.log(self.alpha * x + 1.0)
        else:
            when = (self.T - 1.0) * (1.0 - x)
        self.spike = F.one_hot(when.round().long(), self.T).to(x).movedim(-1, 0)


class PoissonEncoder(StatelessEncoder):
    def forward(self, x: Tensor) -> Tensor:
        return torch.rand_like(x).le(x).to(x)


class WeightedPhaseEncoder(StatefulEncoder):
    """The binary digits of a number, the first the most significant."""

    def __init__(self, K: int, step_mode: str = "s") -> None:
        super().__init__(K, step_mode)

    def encode(self, x: Tensor) -> None:
        if not ((x >= 0).all() and (x <= 1 - 2 ** (-self.T)).all()):
            raise ValueError(f"WeightedPhaseEncoder takes numbers in [0, 1 - 2^-{self.T}]")
        rest, digits = x.clone(), []
        for i in range(self.T):
            digits.append((rest >= 0.5 ** (i + 1)).to(x))
            rest = rest - digits[-1] * 0.5 ** (i + 1)
        self.spike = torch.stack(digits)
