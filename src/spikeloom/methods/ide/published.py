"""The errors of the authors' code behind their names, for reproducing it and nothing else: its two
solvers (`network.solver`), and how it averages event frames (`network.quirks`).

`published-broyden` (`modules/broyden.py`): first step of the wrong sign, 27 memory slots for 30
steps, an absolute tolerance of 2e-10 sqrt(B D), no guard against infinities.
`published-iter` (the loop in `modules/snnide_module.py`): x <- (x + g(x)) / 2 = (A x + b) / 2. It
converges to (2 I - A)^-1 b, about half of the gradient and turned away from it by a few degrees.
The published N-MNIST networks were trained with it.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from spikeloom.methods.ide.solver import Operator, Search, Settings, Solution
from spikeloom.neurons.rate import weight_sum

_SLOTS = 27
_EPS = 2e-10


def published_broyden(operator: Operator, b: Tensor, settings: Settings) -> Solution:
    """Limited-memory good Broyden with H = -I + sum_m u_m v_m^T, as published; `tol` has no effect.

    Stops at |g| < 2e-10 sqrt(B D), at a residual 1e6 times the first one, at NaN, or after
    `max_iter` steps.
    """
    scale = b.norm().item()
    if scale == 0:
        return Search(b, 0.0).end()
    goal = _EPS * math.sqrt(b.numel()) / scale
    search = Search(b, goal)
    slots = min(settings.max_iter, _SLOTS)
    u_slots, v_slots = b.new_zeros(2, slots, *b.shape)

    def times_h(z: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """-z + sum_m left_m <right_m, z>, per sample, over the slots in use."""
        used = slice(len(search.trace) - 1)
        shares = torch.einsum("mbd,bd->mb", right[used], z)
        return torch.einsum("mbd,mb->bd", left[used], shares) - z

    x, r, step = torch.zeros_like(b), b, -b
    while search.trace[-1] >= goal and len(search.trace) <= settings.max_iter:
        x = x + step
        before, r = r, operator(x) + b - x
        n = len(search.trace)
        on = search.saw(x, r)
        if not on or search.trace[-1] > 1e6:
            break
        dr = r - before
        v = times_h(step, v_slots, u_slots)
        u = (step - times_h(dr, u_slots, v_slots)) / (v * dr).sum(1, keepdim=True)
        v_slots[(n - 1) % slots] = v.masked_fill(v.isnan(), 0)
        u_slots[(n - 1) % slots] = u.masked_fill(u.isnan(), 0)
        step = -times_h(r, u_slots, v_slots)
    return search.end()


def published_iter(operator: Operator, b: Tensor, settings: Settings) -> Solution:
    """`max_iter` times x <- (A x + b) / 2 from x = b. The residual that is reported is that of the
    right equation: it stays near one half."""
    search = Search(b, settings.tolerance(b.dtype))
    if search.scale == 0:
        return search.end()
    x = b
    for _ in range(settings.max_iter):
        x = (operator(x) + b) / 2
    residual = (operator(x) + b - x).norm().item() / search.scale
    return Solution(x, settings.max_iter, residual, (1.0, residual), residual <= search.goal)


def published_average(
    frames: Tensor, average: Callable[[Tensor], Tensor], leak: float
) -> tuple[Tensor, Tensor]:
    """Quirk "event-mean": frames `[T, B, ...]` as the code simulates them, and their `average`
    `[B, ...]`, weighted by leak^(T - t), as its rate map sees it.

    It adds the average up inside the last frame, which the simulation then reads; and averages
    again with one term too many, which is that frame itself. Without a leak it does not.
    """
    first = average(frames)
    if leak == 1:
        return frames, first
    frames = torch.cat([frames[:-1], first.unsqueeze(0)])
    steps = len(frames)
    factor = (1 + leak**steps) * weight_sum(leak, steps)
    return frames, average(frames) * (factor / weight_sum(leak, steps + 1))
