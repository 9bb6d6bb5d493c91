"""Every solver solves linear systems, says so, and says so when it does not."""

import pytest
import torch
from torch import Tensor

from spikeloom.methods.ide.equilibrium import SOLVERS, solve_implicit
from spikeloom.methods.ide.solver import LARGEST_DENSE, Operator, Settings

OURS = ["broyden", "anderson", "fixed-point", "dense"]


def _system(size: int = 12, rows: int = 3, norm: float = 0.7, dtype=torch.float64):
    torch.manual_seed(0)
    matrix = torch.randn(size, size, dtype=dtype)
    matrix = matrix * (norm / torch.linalg.matrix_norm(matrix, 2))
    b = torch.randn(rows, size, dtype=dtype)
    exact = torch.linalg.solve(torch.eye(size, dtype=dtype) - matrix, b.T).T
    return (lambda x: x @ matrix.T), b, exact


def _counted(operator: Operator) -> tuple[Operator, list[int]]:
    calls: list[int] = []

    def counting(x: Tensor) -> Tensor:
        calls.append(1)
        return operator(x)

    return counting, calls


@pytest.mark.parametrize("solver", OURS)
@pytest.mark.parametrize(
    ("dtype", "tol", "error"), [(torch.float64, 1e-12, 1e-10), (torch.float32, None, 1e-5)]
)
def test_finds_the_solution(
    solver: str, dtype: torch.dtype, tol: float | None, error: float
) -> None:
    operator, b, exact = _system(dtype=dtype)
    found = SOLVERS[solver](operator, b, Settings(200, tol))
    assert found.converged
    assert (found.x - exact).norm() <= error * exact.norm()
    assert found.residual == pytest.approx(
        ((operator(found.x) + b - found.x).norm() / b.norm()).item(), rel=1e-2, abs=1e-12
    )
    assert len(found.trace) == found.steps + 1
    assert found.trace[0] == 1 and found.residual in found.trace


@pytest.mark.parametrize("solver", OURS[:3])
def test_stops_at_the_limit_and_keeps_the_best(solver: str) -> None:
    operator, b, _ = _system()
    counting, calls = _counted(operator)
    found = SOLVERS[solver](counting, b, Settings(4, 1e-14))
    assert not found.converged
    assert len(calls) == found.steps == 4
    assert found.residual == min(found.trace) < 1


@pytest.mark.parametrize("solver", OURS[:3])
def test_diverging_system_returns_the_start(solver: str) -> None:
    """x = 0 is the best there is when every iterate is worse."""
    b = torch.ones(2, 3, dtype=torch.float64)
    found = SOLVERS[solver](lambda x: 1e200 * x * x.norm(), b, Settings(20))
    assert not found.converged
    assert found.x.isfinite().all()


@pytest.mark.parametrize("solver", [*OURS, "published-broyden", "published-iter"])
def test_zero_gradient_needs_no_steps(solver: str) -> None:
    operator, b, _ = _system()
    counting, calls = _counted(operator)
    found = SOLVERS[solver](counting, torch.zeros_like(b), Settings())
    assert found.converged and not found.x.any()
    assert not calls


@pytest.mark.parametrize("solver", ["broyden", "anderson"])
def test_rows_that_need_nothing_do_not_disturb_the_others(solver: str) -> None:
    """A sample with no upstream gradient, or already solved, divides nothing by zero."""
    operator, b, exact = _system()
    b = torch.cat([b, torch.zeros(1, b.shape[1], dtype=b.dtype)])
    found = SOLVERS[solver](operator, b, Settings(60, 1e-12))
    assert found.converged
    assert torch.allclose(found.x[:-1], exact, atol=1e-10)
    assert not found.x[-1].any()


@pytest.mark.parametrize("solver", ["broyden", "anderson"])
def test_a_system_that_diverges_under_plain_iteration(solver: str) -> None:
    operator, b, exact = _system(norm=2.5)
    found = SOLVERS[solver](operator, b, Settings(60, 1e-11))
    assert found.converged
    assert torch.allclose(found.x, exact, atol=1e-8)


def test_dense_refuses_a_large_system() -> None:
    b = torch.ones(2, LARGEST_DENSE)
    with pytest.raises(ValueError, match=r"at most \d+ unknowns; use solver 'broyden'"):
        SOLVERS["dense"](lambda x: x, b, Settings())


def test_published_iteration_has_half_the_solution_as_its_limit() -> None:
    operator, b, exact = _system(norm=0.3)
    found = SOLVERS["published-iter"](operator, b, Settings(60))
    unit = torch.eye(b.shape[1], dtype=b.dtype)
    matrix = operator(unit).T
    assert torch.allclose(found.x, torch.linalg.solve(2 * unit - matrix, b.T).T, atol=1e-12)
    assert 0.35 < found.x.norm() / exact.norm() < 0.65
    assert not found.converged and found.residual > 0.3


def test_no_iterations_mean_the_one_step_gradient() -> None:
    point = torch.randn(2, 3, requires_grad=True)
    grad = torch.randn(2, 3)
    beta, solution = solve_implicit(point * 0.5, point, grad, "broyden", Settings(0))
    assert torch.equal(beta, grad) and solution is None


def test_coupled_samples_are_one_system() -> None:
    torch.manual_seed(0)
    point = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    mixing = torch.randn(4, 4, dtype=torch.float64) / 5
    image = mixing @ point
    grad = torch.randn(4, 3, dtype=torch.float64)
    beta, solution = solve_implicit(image, point, grad, "broyden", Settings(), coupled=True)
    exact = torch.linalg.solve(torch.eye(4, dtype=torch.float64) - mixing.T, grad)
    assert solution is not None and solution.converged
    assert torch.allclose(beta, exact, atol=1e-8)
