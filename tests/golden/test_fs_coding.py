"""First-spike times, their gradient, and the losses equal the published code."""

import numpy as np
import pytest
import torch
from golden_compare import assert_exact
from golden_fs import DTYPES, Arrays, assert_state, cases, tensor

from spikeloom.analysis.decisions import first_spike_times, peak_ranks
from spikeloom.methods.fs.first_spike import deviation, encode, place, spread, window
from spikeloom.methods.fs.loss import first_spike_loss, rate_loss, silent_label_penalty

# Of the largest gradient, as the README has it for float32.
TOLERANCE = {"f64": 1e-12, "f32": 1e-5}


@pytest.fixture(params=DTYPES)
def suffix(request: pytest.FixtureRequest) -> str:
    return request.param


def _near(actual: torch.Tensor, expected: np.ndarray, suffix: str, what: str) -> None:
    error = np.abs(actual.detach().double().numpy() - expected).max()
    assert error <= TOLERANCE[suffix] * np.abs(expected).max(), f"{what}: off by {error:.3g}"


def _spike_times(spikes: torch.Tensor, potentials: torch.Tensor) -> torch.Tensor:
    """The full code `[T, B, N]` whose minimum over time is `first_spike_times`.

    A spike in step t is t. A step without one is T + r_n + 0.01 q_{n,t}, where q = 0..T-1 ranks the
    potentials of neuron n over time, the highest first.
    """
    ranks = potentials.argsort(dim=0, descending=True, stable=True).argsort(0)
    kind = torch.promote_types(spikes.dtype, torch.float32)
    silent = len(spikes) + peak_ranks(potentials) + 0.01 * ranks.to(kind)
    steps = torch.arange(1, len(spikes) + 1, device=spikes.device, dtype=kind)
    return torch.where(spikes != 0, steps.view(-1, 1, 1), silent)


def test_times_and_their_gradient(fs_coding: Arrays, suffix: str) -> None:
    dtype = DTYPES[suffix]
    for case in cases(fs_coding, "g_first").values():
        T, divisor = int(case["T"]), float(case["D"])
        spikes = tensor(case["spikes"], dtype).movedim(-1, 0).requires_grad_()
        potentials = tensor(case["potentials"], dtype).movedim(-1, 0)
        times = encode(spikes, potentials, divisor=divisor, amplitude=float(case["A"]))
        assert_exact(times, case[f"first_time_{suffix}"], "first times")
        assert_exact((-times).argmax(1), case["pred_fs"], "predictions")
        full = _spike_times(spikes.detach(), potentials)
        assert_state(full.movedim(0, -1), case[f"spike_times_{suffix}"], suffix, "all times")
        assert torch.equal(full.amin(0), first_spike_times(spikes, potentials))

        assert deviation(T, divisor) == int(case["sigma"])
        assert_state(window(T, divisor), case["kernel"], "f64", "window")
        g_first = tensor(case["g_first"], dtype)
        errors = place(g_first, times.detach(), T).movedim(0, -1)
        assert_exact(errors, case[f"grad_times_{suffix}"], "placed errors")
        times.backward(g_first)
        assert spikes.grad is not None
        _near(spikes.grad.movedim(0, -1), case[f"grad_spikes_{suffix}"], suffix, "on spikes")
        dense = spread(tensor(case["g_dense"], dtype).movedim(-1, 0), divisor) * -float(case["A"])
        expected = case[f"grad_spikes_from_dense_{suffix}"]
        _near(dense.movedim(0, -1), expected, suffix, "window alone")


def test_losses(fs_losses: Arrays, suffix: str) -> None:
    labels = torch.from_numpy(fs_losses["label"])
    times = tensor(fs_losses["first_time"], DTYPES[suffix]).requires_grad_()
    rates = tensor(fs_losses["firing_rate"], DTYPES[suffix]).requires_grad_()
    alpha = float(fs_losses["alpha_fs"])
    for mode in ("train", "test"):
        loss = first_spike_loss(times, labels, alpha)
        if mode == "train":
            loss = loss + silent_label_penalty(
                times,
                labels,
                int(fs_losses["T"]),
                float(fs_losses["treg_lambda"]),
                float(fs_losses["treg_beta"]),
            )
        assert_state(loss, fs_losses[f"fs_loss_{mode}_{suffix}"], suffix, "FS loss")
        (grad,) = torch.autograd.grad(loss, times)
        assert_state(grad, fs_losses[f"fs_grad_time_{mode}_{suffix}"], suffix, "of times")
        loss = rate_loss(rates, labels, float(fs_losses["alpha_fr"]))
        assert_state(loss, fs_losses[f"fr_loss_{mode}_{suffix}"], suffix, "FR loss")
        (grad,) = torch.autograd.grad(loss, rates)
        assert_state(grad, fs_losses[f"fr_grad_rate_{mode}_{suffix}"], suffix, "of rates")
    assert_exact((-times).argmax(1), fs_losses["fs_pred"], "FS predictions")
    assert_exact(rates.argmax(1), fs_losses["fr_pred"], "FR predictions")


@pytest.mark.parametrize("late", [500.0, 1e4])
def test_losses_are_finite_where_the_published_one_is_not(late: float) -> None:
    times = torch.tensor([[1.0, late], [late, 1.0]], requires_grad=True)
    loss = first_spike_loss(times, torch.tensor([1, 1]), 0.2)
    loss.backward()
    assert loss.isfinite() and times.grad is not None and times.grad.isfinite().all()
