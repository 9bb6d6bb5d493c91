import pytest
import torch
from torch import nn

from spikeloom.neurons import LIF, PLIF
from spikeloom.nn import Sequential, is_constant, per_step, steps


class Calls(nn.Module):
    """The identity; remembers the shapes that it was called with."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def forward(self, x):
        self.shapes.append(tuple(x.shape))
        return x


class TimeAware(Calls):
    time_first = True


def stepped(layers, x):
    """The definition: every layer called at every time step, neurons over the whole sequence."""
    for layer in layers:
        x = layer(x) if isinstance(layer, LIF | PLIF) else torch.stack([layer(step) for step in x])
    return x


def test_chain_equals_layers_called_step_by_step():
    layers = [
        nn.Conv2d(2, 3, 3, padding=1),
        PLIF(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 5),
        LIF(),
    ]
    x = (3 * torch.randn(4, 2, 2, 4, 4)).requires_grad_()
    y = Sequential(*layers)(x)
    torch.testing.assert_close(y, stepped(layers, x))
    grad = torch.randn_like(y)
    (ours,) = torch.autograd.grad(y, x, grad)
    (theirs,) = torch.autograd.grad(stepped(layers, x), x, grad)
    torch.testing.assert_close(ours, theirs)
    assert ours.abs().sum() > 0


def test_time_is_folded_once_for_layers_in_a_row_and_kept_for_time_aware_ones():
    first, second, aware, last = Calls(), Calls(), TimeAware(), Calls()
    Sequential(first, second, aware, last)(torch.zeros(3, 2, 5))
    assert first.shapes == second.shapes == last.shapes == [(6, 5)]
    assert aware.shapes == [(3, 2, 5)]


def test_constant_current_is_computed_once_and_stays_a_view():
    layer, aware = Calls(), TimeAware()
    image = torch.randn(2, 5)
    y = Sequential(layer, aware)(image.expand(4, 2, 5))
    assert layer.shapes == [(2, 5)]
    assert is_constant(y) and y.shape == (4, 2, 5)
    assert y.data_ptr() == image.data_ptr()


def test_gradient_through_a_constant_current_is_summed_over_time():
    image = torch.randn(2, 3, requires_grad=True)
    weight = torch.randn(4, 2, 3)
    (steps(nn.Identity())(image.expand(4, 2, 3)) * weight).sum().backward()
    torch.testing.assert_close(image.grad, weight.sum(0))


def test_a_single_step_is_not_taken_for_a_constant_current():
    assert not is_constant(torch.zeros(2, 3).expand(1, 2, 3))
    assert not is_constant(torch.zeros(4, 2, 3))


def test_folding_channels_last_makes_no_copy():
    x = torch.zeros(6, 4, 5, 5).to(memory_format=torch.channels_last).unflatten(0, (3, 2))
    seen = []

    def look(folded):
        seen.append(folded)
        return folded

    per_step(look, x)
    assert seen[0].data_ptr() == x.data_ptr()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_chains_nest_and_slice():
    net = Sequential(nn.Linear(3, 4), Sequential(LIF(), nn.Linear(4, 2)), nn.ReLU())
    assert net(torch.randn(5, 2, 3)).shape == (5, 2, 2)
    assert isinstance(net[:1], Sequential)
    assert net[:1](torch.randn(5, 2, 3)).shape == (5, 2, 4)


def test_empty_chain_is_the_identity():
    x = torch.randn(2, 3, 4)
    assert Sequential()(x) is x


def test_steps_wraps_any_module():
    layer = nn.Linear(3, 4)
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(steps(layer)(x), layer(x))


@pytest.mark.parametrize("wrap", [steps, lambda m: Sequential(m)(torch.zeros(2, 1, 3))])
def test_neuron_hidden_in_an_ordinary_container_is_refused(wrap):
    with pytest.raises(TypeError, match=r"LIF at '1' inside Sequential needs the time axis"):
        wrap(nn.Sequential(nn.Linear(3, 3), LIF()))


def test_layer_that_loses_samples_is_named():
    with pytest.raises(ValueError, match=r"Flatten answered \[18\] to 6 samples.*start_dim=1"):
        Sequential(nn.Flatten(0))(torch.zeros(3, 2, 3))


def test_layer_that_answers_no_tensor_is_named():
    with pytest.raises(ValueError, match="answered a tuple to 6 samples"):
        per_step(lambda x: (x, x), torch.zeros(3, 2, 3))


def test_input_without_time_is_refused():
    with pytest.raises(ValueError, match=r"\[7\]: expected \[T, B, ...\]"):
        Sequential(nn.ReLU())(torch.zeros(7))
