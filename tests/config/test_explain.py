"""What `config explain` says about each key."""

import pytest

from spikeloom.config.fields import KeyExplanation, explain, select
from spikeloom.config.loading import Library, load
from spikeloom.errors import ConfigError


@pytest.fixture
def explained(library: Library) -> dict[str, KeyExplanation]:
    recipe = load("toy/digits", ["clip_norm=2", "schedule=multistep", "milestones=[1, 2]"], library)
    return {one.key: one for one in explain(recipe, type(recipe.network))}


@pytest.mark.parametrize(
    ("key", "type_", "range_", "default", "value"),
    [
        ("title", "text", "not empty", "required", '"digits"'),
        ("training.epochs", "integer", "at least 1", "required", "3"),
        ("training.clip_norm", "number or none", "above 0", "none", "2.0"),
        ("training.compile", "true or false", "", "false", "false"),
        ("schedule.milestones", "list of integers", "each at least 1", "[]", "[1, 2]"),
        (
            "optimizer.betas",
            "list of 2 numbers",
            "each at least 0 and below 1",
            "[0.9, 0.999]",
            "[0.9, 0.999]",
        ),
        ("protocol.name", "A, B", "", '"A"', '"A"'),
        ("network.tau", "number", "above 1", "2.0", "2.0"),
        ("network.v_reset", "number or none", "", "0.0", "0.0"),
        ("data.root", "text or none", "not empty", "none", "none"),
    ],
)
def test_type_range_default_and_value(explained, key, type_, range_, default, value):
    one = explained[key]
    assert (one.type, one.range, one.default, one.value) == (type_, range_, default, value)


def test_lists_of_sections(explained):
    kinds = "affine, crop, flip, alternating_flip, autoaugment, cutout"
    assert explained["data.augment"].type == f"list of table with kind = {kinds}"
    assert explained["data.augment"].value == (
        '[{ kind = "affine", degrees = 10.0, translate = 0.15, scale = [0.85, 1.11], fill = 0 }, '
        '{ kind = "flip", p = 0.5 }]'
    )


def test_without_a_recipe_there_are_no_values_and_no_network_keys():
    keys = {one.key: one.value for one in explain(None, None)}
    assert set(keys.values()) == {None}
    assert "training.epochs" in keys
    assert not any(key.startswith("network.") for key in keys)


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("lr", ["optimizer.lr"]),
        ("optimizer.lr", ["optimizer.lr"]),
        ("seed", ["seed"]),
        ("every_steps", ["checkpoint.every_steps", "logging.every_steps"]),
        ("logging", ["logging.every_steps", "logging.tensorboard"]),
    ],
)
def test_select(explained, key: str, found: list[str]):
    assert [one.key for one in select(list(explained.values()), key, "toy/digits")] == found


def test_select_names_the_nearest_key(explained):
    with pytest.raises(ConfigError) as caught:
        select(list(explained.values()), "epoch", "toy/digits")
    assert str(caught.value) == ('toy/digits: unknown key epoch; did you mean "training.epochs"?')
