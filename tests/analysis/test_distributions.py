"""The spread of constants before training and after, and its figure."""

import torch
from torch import nn

from spikeloom.analysis.constants import constant_distributions
from spikeloom.neurons import GLIF, LIF
from spikeloom.nn import Sequential
from spikeloom.plot import histograms


def _net() -> Sequential:
    return Sequential(nn.Linear(3, 4), GLIF(4, 2), LIF(), nn.Linear(4, 5), GLIF(5, 2))


def test_every_constant_with_several_values_is_found_by_layer() -> None:
    before, after = _net(), _net()
    gated = after[1]
    assert isinstance(gated, GLIF)
    with torch.no_grad():
        gated.alpha.add_(torch.arange(4))
    found = constant_distributions(before, after)
    assert "tau" not in found  # the one value of LIF has no distribution
    assert [spread.layer for spread in found["alpha"]] == ["1", "4"]
    assert [spread.layer for spread in found["decay"]] == ["1", "4"]
    spread = found["alpha"][0]
    assert torch.allclose(spread.after, gated.alpha.detach().sigmoid())
    assert spread.before.unique().numel() == 1
    assert found["conductance"][1].after.shape == (10,)


def test_single_values_have_no_distribution() -> None:
    net = Sequential(nn.Linear(3, 4), LIF(), GLIF(None))
    assert constant_distributions(net, net) == {}


def test_figure_has_a_row_per_layer() -> None:
    spreads = constant_distributions(_net(), _net())["alpha"]
    labels = histograms("alpha", spreads).get_yticklabels()
    assert [label.get_text() for label in labels] == ["1", "4"]
