"""The arrays of first-spike coding: cases, precisions, tolerances as their README has them."""

import numpy as np
import torch
from torch import Tensor

from spikeloom.compiler.dispatch import available_backends

Arrays = dict[str, np.ndarray]

BACKENDS = [name for name in available_backends() if name in ("eager", "cpu")]
DTYPES = {"f64": torch.float64, "f32": torch.float32}

STATE = {"f64": 1e-9, "f32": 2e-6}
"""max|a - b| <= tolerance * max(1, max|b|), for potentials, currents, losses."""
GRADIENT = {"f64": 1e-8, "f32": 1e-4}
"""max|a - b| <= tolerance * max|b|."""


def cases(arrays: Arrays, having: str) -> dict[str, Arrays]:
    """The arrays of every case that has one called `having`: `CASE_NAME` without the first part."""
    found: dict[str, Arrays] = {}
    for name in arrays:
        if name.endswith(f"_{having}"):
            case = name.removesuffix(having)
            found[case[:-1]] = {
                key.removeprefix(case): value
                for key, value in arrays.items()
                if key.startswith(case)
            }
    return found


def tensor(array: np.ndarray, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(np.asarray(array)).to(dtype)


def rounded(array: np.ndarray) -> float:
    """A constant that the published program keeps in float32 whatever the run's precision."""
    return float(np.float32(array))


def assert_state(actual: Tensor, expected: np.ndarray, suffix: str, what: str) -> None:
    _within(actual, expected, STATE[suffix] * max(1.0, float(np.abs(expected).max())), what)


def assert_gradient(actual: Tensor | None, expected: np.ndarray, suffix: str, what: str) -> None:
    assert actual is not None, f"{what}: no gradient"
    _within(actual, expected, GRADIENT[suffix] * float(np.abs(expected).max()), what)


def _within(actual: Tensor, expected: np.ndarray, slack: float, what: str) -> None:
    got, want = actual.detach().double().numpy(), np.asarray(expected, np.float64)
    assert got.size == want.size, f"{what}: shape {got.shape}, expected {want.shape}"
    error = np.abs(got.reshape(want.shape) - want).max(initial=0.0)
    assert np.isfinite(error) and error <= slack, f"{what}: off by {error:.3g} > {slack:.3g}"
