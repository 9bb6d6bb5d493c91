import subprocess
import sys

import pytest

from spikeloom.errors import ConfigError
from spikeloom.methods.catalog import dump, load_recipe, methods, parse, recipe_names
from spikeloom.methods.plif.config import PlifNetwork

RECIPES = [
    *(
        "plif/cifar10",
        "plif/cifar10-compact",
        "plif/cifar10-compact-hybrid",
        "plif/cifar10-dvs",
        "plif/digits",
        "plif/digits-callbacks",
    ),
    *("plif/digits-events",),
    *("plif/dvs128-gesture", "plif/fashion-mnist", "plif/fashion-mnist-short"),
    *("plif/mnist", "plif/mnist-short", "plif/nmnist"),
]
PUBLISHED = {
    "plif/mnist": {"A": 99.72, "B": 99.63},
    "plif/fashion-mnist": {"A": 94.38, "B": 93.85},
    "plif/cifar10": {"A": 93.50, "B": 92.58},
}


def test_all_recipes_are_listed_and_their_base_is_not():
    assert [name for name in recipe_names() if name.startswith("plif/")] == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_survives_being_written(name):
    recipe = load_recipe(name)
    assert parse(dump(recipe)) == recipe


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings(name):
    recipe = load_recipe(name)
    assert recipe.published == PUBLISHED[name]
    network = recipe.network
    assert isinstance(network, PlifNetwork)
    assert (network.T, network.neuron, network.tau, network.pool) == (8, "plif", 2.0, "max")
    assert (network.alpha, network.learn_alpha, network.detach_reset) == (2.0, False, True)
    assert network.batchnorm == "per_step" and network.channels is None
    assert (recipe.optimizer.name, recipe.optimizer.lr) == ("adam", 1e-3)
    assert recipe.optimizer.betas == (0.9, 0.999) and recipe.optimizer.weight_decay == 0
    assert (recipe.schedule.name, recipe.schedule.T_max) == ("cosine", 64)
    assert (recipe.data.batch_size, recipe.data.drop_last) == (16, True)
    assert (recipe.training.epochs, recipe.seed) == (1024, 2020)
    assert recipe.protocol.val_ratio == 0.15


def test_published_augmentation():
    affine = load_recipe("plif/mnist").data.augment
    assert [step.model_dump() for step in affine] == [
        {"kind": "affine", "degrees": 30.0, "translate": 0.15, "scale": (0.85, 1.11), "fill": 0}
    ]
    assert load_recipe("plif/fashion-mnist").data.augment == ()
    assert [step.model_dump() for step in load_recipe("plif/cifar10").data.augment] == [
        {"kind": "crop", "padding": 4},
        {"kind": "flip", "p": 0.5},
    ]


def test_rows_of_the_second_table_are_overrides():
    recipe = load_recipe("plif/mnist", ["neuron=lif", "tau=16", "pool=avg", "protocol=B"])
    network = recipe.network
    assert isinstance(network, PlifNetwork)
    assert (network.neuron, network.tau, network.pool) == ("lif", 16.0, "avg")
    assert (recipe.protocol.name, recipe.protocol.validation) == ("B", "published")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tau=1", "needs tau above 1"),
        ("layers=3", "layers of 'mnist' are fixed"),
        ("v_reset=2", "below v_threshold"),
        ("pool=mx", "max, avg"),
        ("network=cifar", "cifar10"),
        ("T=0", "network.T"),
    ],
)
def test_impossible_networks_are_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe("plif/mnist", [override])


def test_lif_may_forget_within_a_step():
    network = load_recipe("plif/mnist", ["neuron=lif", "tau=1"]).network
    assert isinstance(network, PlifNetwork) and network.tau == 1


def test_soft_reset_is_a_word():
    network = load_recipe("plif/mnist", ["v_reset=soft"]).network
    assert isinstance(network, PlifNetwork) and network.v_reset == "soft"


def test_method_and_schema_load_without_torch():
    code = (
        "import sys; from spikeloom.methods.catalog import load_recipe; load_recipe('plif/mnist');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert methods()["plif"].network is PlifNetwork
