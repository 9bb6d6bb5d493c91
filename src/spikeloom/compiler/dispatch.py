"""Which backend runs a step, and why."""

from typing import Literal

from torch import Tensor

from spikeloom.compiler.eager import compute_dtype, run_eager
from spikeloom.compiler.step import Step

Backend = Literal["auto", "eager", "cpu"]


def available_backends() -> tuple[str, ...]:
    """The backends that this machine can run."""
    return ("eager",)


def run_steps(
    step: Step,
    x: Tensor,
    states: tuple[Tensor, ...] | None,
    coefs: list[Tensor],
    *,
    rest: tuple[float, ...],
    backend: Backend,
    record: tuple[str, ...],
    want_state: bool,
) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
    """Spikes, final states (empty unless `want_state`), and records of `step` applied along axis 0 of `x`."""
    if states is None:
        states = tuple(x.new_full(x.shape[1:], value, dtype=compute_dtype(x)) for value in rest)
    return run_eager(step, x, list(states), coefs, record)
