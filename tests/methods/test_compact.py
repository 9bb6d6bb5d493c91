"""The small network of four methods: its fixed first layer, its shapes, and that it learns."""

import pytest
import torch

from spikeloom.data.base import DataSpec
from spikeloom.errors import ConfigError
from spikeloom.methods import catalog
from spikeloom.methods.compact import Whitening

METHODS = ("plif", "glif", "dsr", "ide")


def compact(method: str, size: int = 12):
    overrides = ["channels=[4, 8, 8]" if method == "ide" else "channels=4", "callbacks=[]"]
    recipe = catalog.load_recipe(f"{method}/cifar10-compact", overrides)
    spec = DataSpec("made", (3, size, size), tuple("0123456789"))
    return catalog.method_of(recipe).build(recipe.network, spec), recipe.network


def test_whitening_gives_uncorrelated_channels_of_variance_one_and_is_measured_once():
    torch.manual_seed(0)
    smooth = torch.nn.functional.avg_pool2d(torch.randn(64, 3, 12, 12), 3, 1)
    layer = Whitening(3, eps=0.0)
    answer = layer(smooth)[:, :12].transpose(0, 1).flatten(1)
    assert torch.allclose(torch.cov(answer), torch.eye(12), atol=1e-3)
    assert torch.equal(layer.weight[12:], -layer.weight[:12])
    before = layer.weight.clone()
    layer(torch.randn(8, 3, 12, 12))
    assert torch.equal(layer.weight, before)
    again = Whitening(3)
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again.eval()(smooth), layer.eval()(smooth))


@pytest.mark.parametrize("method", METHODS)
def test_it_learns_what_it_is_shown(method: str):
    torch.manual_seed(1)
    network, section = compact(method)
    images, labels = torch.randn(20, 3, 12, 12), torch.arange(20) % 10
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        network.before_step()
        output = network(images)
        loss = torch.nn.functional.cross_entropy(output.scores, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        network.after_step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    with torch.autocast("cpu", torch.bfloat16):  # as its recipe trains it
        network(images).scores.sum().backward()
        votes = network.eval()(images).votes
    assert votes is not None and votes.shape == (section.T, 20, 10)


@pytest.mark.parametrize("method", METHODS)
def test_samples_that_do_not_fit_are_named(method: str):
    with pytest.raises(ConfigError, match="'compact' takes images of 9x9 or more"):
        compact(method, size=8)
