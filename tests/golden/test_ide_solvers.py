"""The restricted weights and the solvers on their own equal the published code."""

import numpy as np
import pytest
import torch
from golden_compare import assert_abs, assert_rel
from torch import Tensor

from spikeloom.methods.ide.equilibrium import SOLVERS
from spikeloom.methods.ide.published import published_broyden
from spikeloom.methods.ide.restriction import SpectralRestriction
from spikeloom.methods.ide.solver import Settings

Arrays = dict[str, np.ndarray]


def _problems(arrays: Arrays) -> list[str]:
    return sorted({name.split(".")[0] for name in arrays})


def _operator(arrays: Arrays, k: str):
    matrix = torch.from_numpy(arrays[f"{k}.A"])
    return lambda x: x @ matrix  # rows of (A^T x)


def test_published_broyden_step_by_step(ide_broyden: Arrays) -> None:
    for k in _problems(ide_broyden):
        b = torch.from_numpy(ide_broyden[f"{k}.c"])
        double = b.dtype == torch.float64
        settings = Settings(int(ide_broyden[f"{k}.threshold"]))
        found = published_broyden(_operator(ide_broyden, k), b, settings)
        first = 6 if double else 4
        trace = torch.tensor(found.trace[:first], dtype=torch.float64) * b.norm()
        want = ide_broyden[f"{k}.trace"][:first]
        np.testing.assert_allclose(trace.numpy(), want, rtol=1e-6 if double else 1e-3)
        if double:
            assert abs(found.steps - int(ide_broyden[f"{k}.nstep"])) <= 1
            # What it did not solve is not compared digit by digit: rounding errors grow.
            if ide_broyden[f"{k}.residual"] < 1e-6:
                assert_rel(found.x, ide_broyden[f"{k}.x"], 1e-6, f"{k}.x")


@pytest.mark.parametrize("solver", ["broyden", "anderson", "dense"])
def test_our_solvers_find_the_exact_solution(ide_broyden: Arrays, solver: str) -> None:
    """Also where the published one, with its memory used up, stalls."""
    for k in _problems(ide_broyden):
        b = torch.from_numpy(ide_broyden[f"{k}.c"])
        double = b.dtype == torch.float64
        settings = Settings(80, 1e-11 if double else 5e-6)
        found = SOLVERS[solver](_operator(ide_broyden, k), b, settings)
        assert found.converged
        # |x - x_exact| <= |(I - A)^-1| |residual|
        tolerance = 1e-8 if double else 1e-3
        assert_rel(found.x, ide_broyden[f"{k}.x_exact"], tolerance, f"{k}.x")


def test_spectral_restriction(ide_spectral: Arrays) -> None:
    for case in sorted({".".join(name.split(".")[:2]) for name in ide_spectral}):

        def array(name: str, case: str = case) -> np.ndarray:
            return ide_spectral[f"{case}.{name}"]

        def given(name: str, case: str = case) -> Tensor:
            return torch.from_numpy(ide_spectral[f"{case}.{name}"])

        weight = given("w").requires_grad_()
        tolerance = 1e-12 if weight.dtype == torch.float64 else 2e-5
        rule = SpectralRestriction(weight, 1.0).to(weight.dtype)
        with torch.no_grad():
            rule.gain.copy_(given("g"))
            rule.u.copy_(given("u0"))
            rule.v.copy_(given("v0"))
        for step in ("step1", "step2", "step3"):
            rule.zero_grad()
            weight.grad = None
            effective = rule(weight)
            (effective * given("upstream")).sum().backward()
            assert_rel(effective, array(f"{step}.weff"), tolerance, f"{case} {step} weight")
            assert_abs(rule.u, array(f"{step}.u"), tolerance, f"{case} {step} u")
            assert_abs(rule.v, array(f"{step}.v"), tolerance, f"{case} {step} v")
            assert weight.grad is not None and rule.gain.grad is not None
            scale = np.abs(array("upstream")).sum()
            error = abs(rule.gain.grad.item() - array(f"{step}.grad_g").item())
            assert error <= tolerance * scale, f"{case} {step}: gradient of the gain"
            assert_abs(weight.grad, array(f"{step}.grad_w"), tolerance * scale, f"{case} {step}")
