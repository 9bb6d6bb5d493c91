"""What the compiler is given: one time step, and the names of what goes in and out of it."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Step:
    """One time step of a neuron as a pure elementwise function.

    `function(x, *states, *coefs) -> (spikes, *new_states, *observed)`, all in the shape of `x`.
    `time_coefs` names the coefs whose first axis is time. `owner`, where given, is the module whose
    parameters are named in error texts.
    """

    function: Callable[..., tuple[Tensor, ...]]
    states: tuple[str, ...]
    coefs: tuple[str, ...]
    observed: tuple[str, ...] = ()
    time_coefs: tuple[str, ...] = ()
    name: str = "step"
    owner: nn.Module | None = None
