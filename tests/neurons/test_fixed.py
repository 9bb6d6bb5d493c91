"""Weights go with the constants they were made with, and constants that learn stay in range."""

import io

import pytest
import torch
from torch import nn

import spikeloom as sl
from spikeloom.neurons.fixed import FixedConstants

PAIRS = {
    "tau": (sl.LIF(tau=8.0), sl.LIF(), "tau=8.0, and this network has tau=2.0"),
    "threshold": (sl.IF(v_threshold=0.3), sl.IF(), "v_threshold=0.3"),
    "reset": (sl.PLIF(v_reset=None), sl.PLIF(), "v_reset=None"),
    "input": (sl.PLIF(decay_input=False), sl.PLIF(), "decay_input=False"),
    "delay": (sl.CuLIF(4.0, 3.0), sl.CuLIF(4.0, 3.0, delay=2), "delay=1"),
    "form": (sl.PCuLIF(4.0, 4.0, form="direct"), sl.PCuLIF(4.0, 4.0), "form='direct'"),
    "leak": (sl.RateLIF(0.5), sl.RateLIF(), "leak=0.5"),
    "step": (sl.ScaledLIF(delta_t=0.1), sl.ScaledLIF(), "delta_t=0.1"),
    "strict": (sl.LIF(surrogate=sl.ATan(strict=True)), sl.LIF(), "strict=True"),
    "kind": (sl.IF(), sl.LIF(), "made with IF, and this network has LIF"),
    "gates": (sl.GLIF(3, gates="hard"), sl.GLIF(3), "gates='hard'"),
    "membrane": (
        sl.GLIF(3, learn_membrane=False, tau=0.9),
        sl.GLIF(3, learn_membrane=False),
        "tau=\\[0.8999",
    ),
    "norm": (sl.nn.TdBatchNorm(3), sl.nn.TdBatchNorm(3, threshold=1.0), "scale=0.5"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_weights_made_with_other_constants_are_refused(name: str) -> None:
    made, other, said = PAIRS[name]
    saved = nn.Sequential(nn.Linear(3, 3), made)
    target = nn.Sequential(nn.Linear(3, 3), other)
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    with pytest.raises(RuntimeError, match=f"1[.:a-z]* .*{said}"):
        target.load_state_dict(state)
    saved.load_state_dict(state)
    target.load_state_dict(target.state_dict())
    target.load_state_dict(dict(state), strict=name != "kind")  # as another library wrote it


def test_what_changes_no_spike_may_be_chosen_anew() -> None:
    made = sl.LIF(backend="eager", detach_reset=False, surrogate=sl.Sigmoid(3.0))
    made.calls = 7  # a counter is no constant
    sl.LIF().load_state_dict(made.state_dict())


def test_a_users_neuron_takes_part_by_its_arguments() -> None:
    class Mine(sl.Neuron):
        def __init__(self, gain: float = 1.0) -> None:
            super().__init__()
            self.gain = gain

    assert issubclass(Mine, FixedConstants)
    with pytest.raises(RuntimeError, match=r"gain=2.0, and this network has gain=1.0"):
        Mine().load_state_dict(Mine(2.0).state_dict())


@pytest.mark.parametrize(
    ("neuron", "name", "low", "high"),
    [
        (sl.LIF(surrogate=sl.ATan(learnable=True)), "surrogate.alpha", 1e-3, 1e9),
        (sl.PCuLIF(9.0, 9.0, form="direct"), "beta", 0.7357, 0.995),
        (sl.ScaledIF(), "threshold", 0.01, 1e9),
        (sl.AdLIF(9.0), "a", 0.0, 1.0),
    ],
)
@pytest.mark.parametrize("step", [-1e3, 1e3])
def test_an_optimizer_step_leaves_no_range(neuron, name, low, high, step) -> None:
    parameters = [p for p in neuron.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.data.fill_(step)
        parameter.grad = None
    value = neuron._all_coefs()[name]
    assert low - 1e-6 <= value.item() <= high + 1e-6
    value.backward()
    assert any(p.grad is not None and p.grad.item() == 1 for p in parameters)


def test_a_steepness_below_zero_turns_no_gradient_round() -> None:
    neuron = sl.LIF(surrogate=sl.ATan(learnable=True))
    neuron.surrogate.alpha.data.fill_(-5.0)
    x = torch.full((4, 2, 3), 1.5, requires_grad=True)
    neuron(x).sum().backward()
    assert (x.grad >= 0).all() and x.grad.any()
