"""What a target of the compiler offers: the one contract that `cpu/` and `gpu/` fulfil.

`cpu/launch.py` and `gpu/launch.py` are the two targets; the files beside them have the same names
for the same parts: `plan` (how work is cut), `loops` (the walk, as text), `pieces`, `writer`,
`forward`, `backward` (the kernels, as text), `mathlib` (what they call).
"""

from importlib import import_module
from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from spikeloom.compiler.front.trace import Trace
from spikeloom.compiler.plan.call import Form, TraceKey

TargetName = Literal["cpu", "gpu"]
"""What kernels are written for."""


class BoundKernel(Protocol):
    """A step for tensors of one form: it holds the walk, the shapes of what it fills, and the
    arguments that do not change. Forward and backward share it."""

    def forward(
        self,
        x: Tensor,
        starts: list[Tensor],
        coefs: list[Tensor],
        record: tuple[str, ...],
        want_state: bool,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Spikes, final states (empty unless wanted), and one sequence per name in `record`."""
        ...

    def backward(
        self,
        x: Tensor,
        starts: list[Tensor],
        coefs: list[Tensor],
        grad_spikes: Tensor,
        grad_finals: list[Tensor],
        want_x: bool,
        want_coefs: list[bool],
    ) -> tuple[Tensor | None, list[Tensor], list[Tensor | None]]:
        """Gradients of the input, of the initial states given, and of the wanted coefs.

        `grad_finals` is empty where no gradient comes from the final states.
        """
        ...


class Target(Protocol):
    """The module `launch` of a target."""

    def bind(self, key: TraceKey, form: Form) -> BoundKernel: ...

    def kernel_text(self, trace: Trace, dtype: torch.dtype) -> str:
        """Both kernels of a step whose coefs are per layer, for people."""
        ...


def target(name: TargetName) -> Target:
    return cast(Target, import_module(f"spikeloom.compiler.{name}.launch"))
