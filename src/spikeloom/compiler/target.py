"""What a target of the compiler offers: the one contract that `cpu/` and `gpu/` fulfil.

`cpu/launch.py` and `gpu/launch.py` are the two targets; the files beside them have the same names
for the same parts: `plan` (how work is cut), `loops` (the walk, as text), `pieces`, `writer`,
`forward`, `backward` (the kernels, as text), `mathlib` (what they call).
"""

from importlib import import_module
from typing import Literal, Protocol, cast

import torch

from spikeloom.compiler.front.trace import Trace
from spikeloom.compiler.plan.bound import BoundKernel
from spikeloom.compiler.plan.call import Form

TargetName = Literal["cpu", "gpu"]
"""What kernels are written for."""


class Target(Protocol):
    """The module `launch` of a target."""

    def bind(self, trace: Trace, form: Form) -> BoundKernel:
        """The kernels of a step for tensors of one form: see `plan.bound`."""
        ...

    def kernel_text(self, trace: Trace, dtype: torch.dtype) -> str:
        """Both kernels of a step whose coefs are per layer, for people."""
        ...


def target(name: TargetName) -> Target:
    return cast(Target, import_module(f"spikeloom.compiler.{name}.launch"))
