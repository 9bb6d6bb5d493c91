"""The reference: the step, applied T times in plain PyTorch.

Every compiled kernel is tested against this loop, and everything that a kernel cannot do runs here.
"""

from typing import Any

import torch
from torch import Tensor

from spikeloom.compiler.front.step import Step, compute_dtype
from spikeloom.compiler.plan.geometry import coef_kind


def run_eager(
    step: Step, x: Tensor, states: list[Tensor], coefs: list[Tensor], record: tuple[str, ...] = ()
) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
    """Spikes `[T, B, ...]`, the states after the last step, and a sequence `[T, B, ...]` of each
    name in `record`.
    """
    dtype, signature = compute_dtype(x), step.signature
    # unbind, not x[t]: the gradient of every single index would be a zero tensor as large as x
    steps = x.unbind(0)
    per_step = [
        _broadcast(name, coef.to(dtype), x, name in signature.time_coefs, len(steps))
        for name, coef in zip(signature.coefs, coefs, strict=True)
    ]
    names = (*signature.states, *signature.observed)
    states = [state.to(dtype) for state in states]
    spikes: list[Tensor] = []
    records: dict[str, list[Tensor]] = {name: [] for name in record}
    for t, current in enumerate(steps):
        out = step.function(current.to(dtype), *states, *[coef[t] for coef in per_step])
        if not t:
            _check_answer(step, out)
        states = list(out[1 : 1 + len(states)])
        spikes.append(out[0].to(x.dtype))
        for name in record:
            records[name].append(out[1 + names.index(name)])
    if not spikes:
        return (
            x.clone(),
            states,
            {name: x.new_empty(x.shape, dtype=dtype) for name in record},
        )
    return (
        torch.stack(spikes),
        states,
        {name: torch.stack(values) for name, values in records.items()},
    )


def _check_answer(step: Step, out: Any) -> None:
    """Refuses what would be taken apart into something else: one tensor into its samples."""
    names = ("spikes", *step.signature.states, *step.signature.observed)
    several = isinstance(out, tuple | list)
    if not several or len(out) != len(names):
        answer = f"{len(out)} values" if several else f"a {type(out).__name__}"
        raise ValueError(
            f"step of {step.name} returned {answer}: expected {len(names)}, ({', '.join(names)})"
        )
    for name, part in zip(names, out, strict=True):
        if not isinstance(part, Tensor):
            raise TypeError(
                f"step of {step.name} returned a {type(part).__name__} for {name}: expected a "
                "tensor in the shape of x"
            )


def _broadcast(
    name: str, coef: Tensor, x: Tensor, per_time: bool, steps: int
) -> tuple[Tensor, ...]:
    """The coef of each step, in a shape that broadcasts against `x[t]`, `[B, C, ...]`."""
    kind = coef_kind(name, coef.shape, x.shape, per_time)
    time = (coef.shape[0],) if per_time else ()
    if kind == "scalar":
        shape: tuple[int, ...] = ()
    elif kind == "channel":
        shape = (x.shape[2], *[1] * (x.dim() - 3))
    else:
        shape = tuple(x.shape[2:])
    coef = coef.reshape(time + shape)
    return coef.unbind(0) if per_time else (coef,) * steps
