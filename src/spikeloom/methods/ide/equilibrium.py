"""The gradient at the equilibrium: implicit differentiation, one linear solve in place of T steps.

Rates that satisfy a = f(a, theta) have  da/dtheta = (I - J)^-1 df/dtheta,  J = df/da.  So for an
upstream gradient G = dL/da:

    beta = J^T beta + G,     dL/dtheta = (df/dtheta)^T beta

Memory is one graph of f: independent of the number of time steps.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikeloom.methods.ide.published import published_broyden, published_iter
from spikeloom.methods.ide.solver import (
    Operator,
    Settings,
    Solution,
    anderson,
    broyden,
    dense,
    fixed_point,
)

SOLVERS: dict[str, Callable[[Operator, Tensor, Settings], Solution]] = {
    "broyden": broyden,
    "anderson": anderson,
    "fixed-point": fixed_point,
    "dense": dense,
    "published-broyden": published_broyden,
    "published-iter": published_iter,
}


def implicit_rate(rate: Tensor, image: Tensor, solve: Callable[[Tensor], Tensor]) -> Tensor:
    """`rate`, with the gradient of an equilibrium.

    `rate`: simulated rates `[B, ...]` without a graph. `image`: f(rate) with one. `solve(G)`
    answers beta, in the shape of `rate`; it is called in the backward pass, and beta goes to
    `image`. There is no second derivative.
    """
    return _ImplicitRate.apply(rate, image, solve)


class _ImplicitRate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rate: Tensor, image: Tensor, solve: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.solve = solve
        return rate.view_as(rate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, ctx.solve(grads[0]), None


def solve_implicit(
    image: Tensor,
    point: Tensor,
    grad: Tensor,
    solver: str,
    settings: Settings,
    *,
    coupled: bool = False,
) -> tuple[Tensor, Solution | None]:
    """beta for the upstream gradient `grad` at the equilibrium `point`, and how it was found.

    `coupled`: J couples the samples of the batch, as BatchNorm with batch statistics does; they
    are then one system instead of one each, which the published solver does not do. With
    `max_iter` 0 beta is `grad` itself, the one-step gradient.
    """
    if settings.max_iter == 0:
        return grad, None
    rows = 1 if coupled and not solver.startswith("published") else len(grad)

    def product(p: Tensor) -> Tensor:
        """J^T p on `[rows, D]`, from the graph of `image` = f(`point`), which is kept."""
        (result,) = torch.autograd.grad(image, point, p.view(image.shape), retain_graph=True)
        return result.reshape(rows, -1)

    solution = SOLVERS[solver](product, grad.reshape(rows, -1).to(point.dtype), settings)
    return solution.x.view(grad.shape).to(grad.dtype), solution
