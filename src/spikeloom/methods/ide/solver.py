"""Solvers of the linear system behind an implicit gradient.

    x = A x + b,    A = J^T given only by its products,    residual g(x) = A x + b - x

Vectors are `[R, D]`: R systems that A does not couple, each with its own history, or one row
where it does. Every solver starts at x = 0, where g = b costs nothing, and returns the iterate
with the smallest residual. Residuals are norms over all rows, relative to |b|.

    broyden       Broyden's good method with unit steps, in the form that stores only the steps
                  (Kelley, Iterative Methods for Linear and Nonlinear Equations, 1995, section 7.3)
    anderson      Anderson acceleration with full memory, on linear systems equivalent to GMRES
                  (Walker & Ni, SIAM J. Numer. Anal. 2011)
    fixed-point   x <- x + damping * g(x)
    dense         the matrix from R D products, solved directly: a reference for small systems

`published-broyden` and `published-iter` are the authors' two solvers with their errors; see
`published.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]
"""x `[R, D]` -> A x `[R, D]`; linear."""

Total = Callable[[Tensor], Tensor]
"""Adds up what each holder of a part of the vectors has summed over its own part; in place, if it
likes."""


def _identity(part: Tensor) -> Tensor:
    return part


LARGEST_DENSE = 8192
"""Unknowns up to which `dense` builds the matrix: 0.5 GB in float64."""


@dataclass(frozen=True)
class Settings:
    """`max_iter` (30): most products with A. `tol`: relative residual at which to stop; None is
    1e-6, or 1e-10 for float64. `damping` (0.5): of `fixed-point` only. `total`: for one row that
    is spread over several processes, which then take the same steps."""

    max_iter: int = 30
    tol: float | None = None
    damping: float = 0.5
    total: Total = _identity

    def tolerance(self, dtype: torch.dtype) -> float:
        if self.tol is not None:
            return self.tol
        return 1e-10 if dtype == torch.float64 else 1e-6


@dataclass(frozen=True)
class Solution:
    """`x` `[R, D]`: the best iterate. `steps`: iterates that were computed. `residual`: that of
    `x`; `trace`: those of the iterates 0 (x = 0), 1, ...; all relative to |b|."""

    x: Tensor
    steps: int
    residual: float
    trace: tuple[float, ...]
    converged: bool


class Search:
    """The best iterate so far and the course of the residual."""

    def __init__(self, b: Tensor, goal: float, total: Total = _identity) -> None:
        self.goal = goal
        self._total = total
        self.scale = self._norm(b)
        self.x = torch.zeros_like(b)
        self.residual = 1.0 if self.scale > 0 else 0.0
        self.trace = [self.residual]

    def saw(self, x: Tensor, r: Tensor) -> bool:
        """Note iterate `x` with residual vector `r`; whether to go on from it."""
        residual = self._norm(r) / self.scale
        self.trace.append(residual)
        if residual < self.residual:
            self.x, self.residual = x, residual
        # A NaN ends the search: the comparison is false.
        return residual >= self.goal

    def _norm(self, a: Tensor) -> float:
        if self._total is _identity:
            return a.norm().item()
        return self._total(a.square().sum()).sqrt().item()

    def end(self) -> Solution:
        return Solution(
            x=self.x,
            steps=len(self.trace) - 1,
            residual=self.residual,
            trace=tuple(self.trace),
            converged=self.residual <= self.goal,
        )


def broyden(operator: Operator, b: Tensor, settings: Settings) -> Solution:
    """Broyden's good method; memory one vector per step.

    With F(x) = -g(x), F' ~ I and steps s_0 = b, s_1, ...: z = g(x_k) goes through the updates
    z += s_{j+1} <s_j, z> / <s_j, s_j>, j = 0 ... k-2, and s_k = z / (1 - <s_{k-1}, z> /
    <s_{k-1}, s_{k-1}>), all per row.
    """
    search = Search(b, settings.tolerance(b.dtype), settings.total)
    if search.scale == 0 or settings.max_iter == 0:
        return search.end()
    steps = [b]
    squares = [_square(b, settings.total)]
    x = b
    while True:
        z = _residual(operator, x, b)
        if not search.saw(x, z) or len(steps) >= settings.max_iter:
            return search.end()
        for j in range(len(steps) - 1):
            z = torch.addcmul(z, steps[j + 1], _dot(steps[j], z, settings.total) / squares[j])
        # Where the update is singular, go on from the plain step.
        factor = 1 - _dot(steps[-1], z, settings.total) / squares[-1]
        z = torch.where(factor.abs() > 1e-8, z / factor, z)
        steps.append(z)
        squares.append(_square(z, settings.total))
        x = x + z


def anderson(operator: Operator, b: Tensor, settings: Settings) -> Solution:
    """Anderson acceleration (type II, no mixing, full memory) through an incremental QR.

    x_{k+1} = x_k + g_k - (dX + dG) gamma,  gamma = argmin |g_k - dG gamma|, per row. `dG` is kept
    as orthonormal columns Q; the columns of `dX` are transformed along.
    """
    search = Search(b, settings.tolerance(b.dtype), settings.total)
    if search.scale == 0 or settings.max_iter == 0:
        return search.end()
    basis: list[tuple[Tensor, Tensor]] = []  # (column of Q, column of dX)
    x, r = torch.zeros_like(b), b
    dx = b
    while True:
        x = x + dx
        before, r = r, _residual(operator, x, b)
        if not search.saw(x, r) or len(search.trace) > settings.max_iter:
            return search.end()
        dr = r - before
        size = _square(dr, settings.total).sqrt()
        for q, p in basis:
            share = _dot(q, dr, settings.total)
            dr = torch.addcmul(dr, q, share, value=-1)
            dx = torch.addcmul(dx, p, share, value=-1)
        # A direction that is spanned already holds rounding errors only: left out.
        length = _square(dr, settings.total).sqrt()
        scale = torch.where(length > 1e2 * torch.finfo(b.dtype).eps * size, 1 / length, 0)
        basis.append((dr * scale, dx * scale))
        rest, dx = r, torch.zeros_like(r)
        for q, p in basis:
            share = _dot(q, rest, settings.total)
            rest = torch.addcmul(rest, q, share, value=-1)
            dx = torch.addcmul(dx, p, share, value=-1)
        dx = dx + rest


def fixed_point(operator: Operator, b: Tensor, settings: Settings) -> Solution:
    """x <- x + damping * g(x), consistent for every damping in (0, 1]."""
    search = Search(b, settings.tolerance(b.dtype), settings.total)
    if search.scale == 0:
        return search.end()
    x, r = torch.zeros_like(b), b
    for _ in range(settings.max_iter):
        x = x + settings.damping * r
        r = _residual(operator, x, b)
        if not search.saw(x, r):
            break
    return search.end()


def dense(operator: Operator, b: Tensor, settings: Settings) -> Solution:
    """A direct solution of (I - A) x = b of all rows at once.

    Raises `ValueError` above `LARGEST_DENSE` unknowns.
    """
    search = Search(b, settings.tolerance(b.dtype))
    if search.scale == 0:
        return search.end()
    count = b.numel()
    if count > LARGEST_DENSE:
        raise ValueError(
            f"solver 'dense' with {b.numel()} rates in the batch: at most "
            f"{LARGEST_DENSE} unknowns; use solver 'broyden' or a smaller batch"
        )
    columns = [operator(unit.view_as(b)).flatten() for unit in torch.eye(count).to(b)]
    matrix = torch.eye(count).to(b) - torch.stack(columns, 1)
    x = torch.linalg.solve(matrix, b.flatten()).view_as(b)
    search.saw(x, _residual(operator, x, b))
    return search.end()


def _residual(operator: Operator, x: Tensor, b: Tensor) -> Tensor:
    return operator(x) + b - x


def _dot(a: Tensor, b: Tensor, total: Total) -> Tensor:
    """Per sample: `[R, D]`, `[R, D]` -> `[R, 1]`."""
    return total(torch.linalg.vecdot(a, b).unsqueeze(1))


def _square(a: Tensor, total: Total) -> Tensor:
    """Squared norm per row, `[R, 1]`, never 0: rows of zeros stay zeros when divided by it."""
    return _dot(a, a, total).clamp_min(torch.finfo(a.dtype).tiny)
