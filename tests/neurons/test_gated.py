"""What GLIF is besides its published numbers: corners, time, states, errors."""

import itertools

import pytest
import torch

from spikeloom.neurons import GLIF, FusedGLIF

CORNERS = list(itertools.product((0, 1), repeat=3))


@pytest.mark.parametrize("gate", CORNERS, ids=str)
def test_binary_gates_are_the_eight_classical_neurons(gate: tuple[int, int, int]) -> None:
    exponential, weighted, hard = gate
    neuron = GLIF(2, 5, gates="static_hard", gate=gate, backend="eager").double()
    x = torch.randn(5, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    constant = neuron.constants()
    k, leak, th, r = (constant[name] for name in ("decay", "leak", "threshold", "reset"))
    u = torch.zeros(3, 2, dtype=torch.float64)
    s = torch.zeros_like(u)
    gain = constant["conductance"] if weighted else torch.ones(5)
    for t, spikes in enumerate(neuron(x)):
        u = (k * u if exponential else u) * (1 - s if hard else 1)
        u = u - (0 if exponential else leak) + x[t] * gain[t]
        u = u - (0 if hard else r * s)
        s = (u > th).double()
        assert torch.equal(spikes, s)


def test_gates_set_to_zero_and_one_are_binary() -> None:
    constants = GLIF(1, gates="static_hard", gate=(0, 1, 0)).constants()
    assert [constants[name].item() for name in ("alpha", "beta", "gamma")] == [0, 1, 0]


def test_random_gates_differ_by_channel_and_follow_the_seed() -> None:
    torch.manual_seed(3)
    first = GLIF(50, gate="random").alpha
    torch.manual_seed(3)
    again = GLIF(50, gate="random").alpha
    assert torch.equal(first, again)
    assert first.unique().numel() == 50
    assert first.abs().max() <= 0.1


@pytest.mark.parametrize("time_wise", [False, True])
def test_another_number_of_steps_is_refused_and_interpolated_on_request(time_wise: bool) -> None:
    neuron = GLIF(2, 3, time_wise=time_wise, backend="eager")
    with torch.no_grad():
        neuron.conduct.copy_(torch.tensor([[0.0, 1], [1, 1], [2, 1]]))
    x = torch.randn(5, 1, 2)
    with pytest.raises(ValueError, match="T=3 time steps, and got an input of 5"):
        neuron(x)
    neuron.interpolate_time(5)
    assert torch.allclose(neuron.conduct[:, 0], torch.tensor([0.0, 0.5, 1, 1.5, 2]))
    assert neuron.tau.shape == ((5, 2) if time_wise else (2,))
    neuron(x).sum().backward()
    assert neuron.conduct.grad is not None


def test_one_conductance_for_all_steps_takes_any_number_of_them() -> None:
    neuron = GLIF(2, backend="eager")
    assert neuron.time_steps is None
    for T in (1, 4):
        assert neuron(torch.randn(T, 3, 2)).shape == (T, 3, 2)
    with pytest.raises(ValueError, match="takes any T"):
        neuron.interpolate_time(2)


def test_only_gates_are_learned_without_membrane() -> None:
    neuron = GLIF(None, 4, learn_membrane=False)
    assert dict(neuron.named_parameters()).keys() == {"alpha", "beta", "gamma"}
    assert neuron.state_dict().keys() == {"alpha", "beta", "gamma"}
    assert neuron.time_steps is None


def test_fused_neuron_is_the_gated_one_with_all_features() -> None:
    """u = k u (1 - s) - l + c x - r s."""
    neuron = FusedGLIF(2, 3, backend="eager").double()
    x = 3 * torch.rand(3, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    c = neuron.constants()
    u = s = torch.zeros(4, 2, dtype=torch.float64)
    for t, spikes in enumerate(neuron(x)):
        u = c["decay"] * u * (1 - s) - c["leak"] + c["conductance"][t] * x[t] - c["reset"] * s
        s = (u > c["threshold"]).double()
        assert torch.equal(spikes, s)
    assert s.any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"channels": 0}, "channels=0"),
        ({"channels": 2, "tau": 1.0}, "tau=1.0: expected a number between 0 and 1"),
        ({"channels": 2, "gate": (0.5, 2.0, 0.5)}, "beta=2.0"),
        ({"channels": 2, "gates": "static"}, "gates='static': expected one of soft, hard"),
        ({"channels": 2, "time_wise": True}, "time_wise=True needs time_steps"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GLIF(**arguments)  # type: ignore[arg-type]
