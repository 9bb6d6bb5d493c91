"""Comparison with golden arrays, in the terms of their README."""

import numpy as np
import torch
from torch import Tensor


def assert_rel(actual: Tensor, expected: np.ndarray, tolerance: float, what: str) -> None:
    """max|a - b| <= tolerance * max|b| over the whole array."""
    got, want = _pair(actual, expected, what)
    scale = np.abs(want).max(initial=0.0)
    error = np.abs(got - want).max(initial=0.0)
    assert error <= tolerance * scale, f"{what}: off by {error:.3g}, {error / (scale or 1):.3g} rel"


def assert_abs(actual: Tensor, expected: np.ndarray, tolerance: float, what: str) -> None:
    """max|a - b| <= tolerance."""
    got, want = _pair(actual, expected, what)
    error = np.abs(got - want).max(initial=0.0)
    assert error <= tolerance, f"{what}: off by {error:.3g}"


def assert_exact(actual: Tensor, expected: np.ndarray, what: str) -> None:
    """The same shape and the same values."""
    got, want = _pair(actual, expected, what)
    assert np.array_equal(got, want), f"{what}: {(got != want).sum()} of {want.size} values differ"


def _pair(actual: Tensor, expected: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    got = actual.detach().to("cpu", torch.float64).numpy()
    want = np.asarray(expected, dtype=np.float64)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    assert np.isfinite(got).all(), f"{what}: not finite"
    return got, want
