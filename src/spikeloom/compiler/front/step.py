"""What the compiler is given: one time step, and the names of what goes in and out of it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spikeloom.compiler.front.recording import Recording

HALF = (torch.bfloat16, torch.float16)


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype of states and arithmetic: float32 for half precision, else that of the input."""
    return torch.float32 if x.dtype in HALF else x.dtype


@dataclass(frozen=True)
class Signature:
    """The names of a step's states, coefs and observed values; those in `time_coefs` have a value
    per time step. `name` is that of the neuron, for people.
    """

    states: tuple[str, ...]
    coefs: tuple[str, ...]
    observed: tuple[str, ...] = ()
    time_coefs: tuple[str, ...] = ()
    name: str = "step"

    def __post_init__(self) -> None:
        names = ("x", "spikes", *self.states, *self.coefs, *self.observed)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"{self.name} has two values called {twice[0]!r}: states, coefs and observed "
                "values need names of their own, and x and spikes are the step's input and output"
            )


@dataclass(frozen=True)
class Step:
    """One time step of a neuron as a pure elementwise function.

    `function(x, *states, *coefs) -> (spikes, *new_states, *observed)`, all in the shape of `x`.
    `base`: the file of the base class, whose lines are nobody's in an error text.
    """

    signature: Signature
    function: Callable[..., tuple[Tensor, ...]]
    recording: Recording | None = None
    base: str = ""

    @property
    def name(self) -> str:
        return self.signature.name
