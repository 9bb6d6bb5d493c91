"""The small network of four methods: its fixed first layer, its shapes, and that it learns."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch

from spikeloom.data.base import DataSpec
from spikeloom.errors import CheckpointError, ConfigError
from spikeloom.methods import catalog
from spikeloom.methods.compact import Whitening, firing_current
from spikeloom.methods.dsr.thresholds import calibrate, write_thresholds
from spikeloom.neurons import LIF, PLIF

METHODS = ("plif", "glif", "dsr", "ide")


def compact(method: str, size: int = 12, *overrides: str):
    overrides += ("callbacks=[]",)
    if not any(text.startswith("channels") for text in overrides):
        overrides += ("channels=[4, 8, 8]" if method == "ide" else "channels=4",)
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


@pytest.mark.parametrize("method", ["plif", "glif", "dsr"])
@pytest.mark.parametrize("kind", ["", "-hybrid"])
def test_the_callbacks_of_the_recipes_fit_their_networks(method: str, kind: str):
    recipe = catalog.load_recipe(f"{method}/cifar10-compact{kind}", ["channels=4"])
    spec = DataSpec("made", (3, 12, 12), tuple("0123456789"))
    classifier = catalog.method_of(recipe).build(recipe.network, spec)
    training: Any = SimpleNamespace(recipe=recipe, classifier=classifier, epoch=0)
    for section in recipe.callbacks:
        section.build().before_epoch(training)


def test_firing_current_is_the_one_that_reaches_the_threshold_at_once():
    tau = torch.tensor([1.5, 2.0, 4.0])
    neuron = PLIF(tau=2.0, v_threshold=0.5, shape=(3, 1, 1))
    with torch.no_grad():
        neuron.w.copy_(-(tau - 1).log().view(3, 1, 1))
    assert torch.allclose(firing_current(neuron, torch.zeros(3), 2), 0.5 * tau, atol=0.0101)
    with pytest.raises(CheckpointError, match="no current up to 16"):
        firing_current(LIF(tau=2.0, v_threshold=9.0), torch.zeros(1), 1)


@pytest.mark.parametrize("method", ["plif", "glif"])
def test_an_ann_hands_its_weights_to_neurons_that_fire_at_its_rates(method: str, tmp_path: Path):
    torch.manual_seed(2)
    images, labels = torch.randn(64, 3, 12, 12), torch.arange(64) % 4
    ann, _ = compact("dsr", 12, "neuron=relu", "T=1", "channels=8")
    optimizer = torch.optim.Adam(ann.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(ann(images).scores, labels).backward()
        optimizer.step()
    ann.eval()
    assert (ann(images).scores.argmax(1) == labels).float().mean() > 0.9
    weights, thresholds = tmp_path / "weights.safetensors", tmp_path / "thresholds.safetensors"
    state = {name: value.contiguous() for name, value in ann.state_dict().items()}
    safetensors.torch.save_file(state, weights)
    write_thresholds(thresholds, calibrate(ann, [images], 64, 0.97), {})
    network, _ = compact(
        method, 12, f"ann={tmp_path}", f"thresholds={thresholds}", "T=8", "channels=8"
    )
    network.start()
    network.eval()
    assert network.starts_from == str(tmp_path)

    activation = safetensors.torch.load_file(thresholds)["body.layers.0"].item()
    neuron, before = network.body.layers[0], ann.body.body.current(images, 1)
    factor = 2 * firing_current(neuron, torch.zeros(8), 8).view(8, 1, 1) / activation
    current = network.body.current(images, 8)
    assert torch.allclose(current[0], before[0] * factor, atol=1e-5)
    # A spike stands for the calibrated activation, and every neuron of the ANN above half of it
    # fires at once.
    fires = before[0] > 0.5 * activation + 0.05
    assert 0.02 < fires.float().mean() < 0.5 and (neuron(current)[0][fires] != 0).all()
    accuracy = (network(images).scores.argmax(1) == labels).float().mean()
    assert accuracy > 0.4  # of four classes, before any training

    write_thresholds(thresholds, {"body.layers.0": torch.tensor(1.0)}, {})
    with pytest.raises(CheckpointError, match="expected activations above 0 of 6 layers"):
        network.start()
    with pytest.raises(ConfigError, match="a start from an ANN takes both"):
        compact(method, 12, f"ann={tmp_path}")
