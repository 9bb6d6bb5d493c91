"""The arrays of GLIF: cases, precisions, and tolerances as their README has them."""

import numpy as np
import torch
from torch import Tensor

from spikeloom.neurons.gated import GLIF, FusedGLIF, Gated, Gates

Arrays = dict[str, np.ndarray]

RAW = ("alpha", "beta", "gamma", "tau", "Vth", "leak", "reVth", "conduct")


def cases(arrays: Arrays) -> dict[str, Arrays]:
    """The arrays of every case, by its name: `CASE.NAME` without the first part."""
    found: dict[str, Arrays] = {}
    for key, value in arrays.items():
        case, _, name = key.partition(".")
        found.setdefault(case, {})[name] = value
    return found


def precisions(arrays: Arrays) -> list[tuple[str, torch.dtype]]:
    """The columns there are; `mixed` is what a pure float32 implementation is held to."""
    known = {"f64": torch.float64, "f32": torch.float32, "mixed": torch.float32}
    return [(p, dtype) for p, dtype in known.items() if any(k.startswith(f"{p}.") for k in arrays)]


def column(arrays: Arrays, dtype: torch.dtype) -> str:
    """The name of the column to which an implementation in `dtype` is held."""
    return next(name for name, of in precisions(arrays) if of == dtype)


def tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.asarray(array)).to(dtype)


def close(actual: Tensor, expected: np.ndarray, rtol: float, atol: float, what: str) -> None:
    got = actual.detach().double().numpy()
    np.testing.assert_allclose(
        got, np.asarray(expected, dtype=np.float64), rtol=rtol, atol=atol, err_msg=what
    )


def grown(neuron: Gated, raw: Arrays) -> Gated:
    """`neuron` with the raw values of the arrays."""
    for name, value in raw.items():
        if hasattr(neuron, name):
            getattr(neuron, name).data = torch.from_numpy(np.asarray(value))
    return neuron


def neuron(case: Arrays, backend: str, dtype: torch.dtype) -> Gated:
    """The neuron of one case, which form it is read from the arrays."""
    raw = {name: case[name] for name in RAW if name in case}
    channels = case["x"].shape[2] if raw["gamma"].ndim else None
    per_step = raw["conduct"].ndim > raw["gamma"].ndim
    T = len(case["x"]) if per_step else None
    if "alpha" not in raw:
        return grown(FusedGLIF(channels, T, backend=backend), raw).to(dtype)  # type: ignore[arg-type]
    made = GLIF(
        channels,
        T if per_step else None,
        gates=_gates(case),
        time_wise=raw["tau"].ndim > raw["gamma"].ndim,
        learn_membrane=any(name.endswith(".grad_tau") for name in case),
        backend=backend,  # type: ignore[arg-type]
    )
    return grown(made, raw).to(dtype)


def _gates(case: Arrays) -> Gates:
    """The mode whose first potential, -(1 - A) l + (1 - B (1 - c_1)) x_1, is that of the arrays."""
    learned = any(name.endswith(".grad_alpha") for name in case)

    def wrong(hard: bool) -> float:
        def gate(name: str) -> np.ndarray:
            return (case[name] > 0).astype(np.float64) if hard else _sigmoid(case[name])

        def first(name: str) -> np.ndarray:
            value = _sigmoid(case[name])
            return value[0] if value.ndim > case["gamma"].ndim else value

        bias = (1 - gate("alpha")) * first("leak")
        gain = 1 - gate("beta") * (1 - first("conduct"))
        if bias.ndim:
            bias, gain = bias[:, None, None], gain[:, None, None]
        return float(np.abs(gain * case["x"][0] - bias - case["f64.u"][0]).max())

    mode = "hard" if wrong(hard=True) < wrong(hard=False) else "soft"
    return mode if learned else f"static_{mode}"  # type: ignore[return-value]


def _sigmoid(raw: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-raw.astype(np.float64)))
