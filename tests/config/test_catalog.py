"""The installed methods and recipes: every one of them loads, and adding one needs no list."""

import tomllib
from pathlib import Path

import pytest

from spikeloom.errors import ConfigError
from spikeloom.methods import catalog

RECIPES = catalog.recipe_names()


def test_methods_are_the_folders_that_declare_one():
    folder = Path(catalog.__file__).parent
    declared = {path.parent.name for path in folder.glob("*/config.py")}
    assert set(catalog.methods()) == declared
    assert all(method.name == name for name, method in catalog.methods().items())


def test_every_recipe_file_is_listed_under_its_method():
    files = Path(catalog.__file__).parent.glob("*/recipes/[!_]*.toml")
    assert sorted(f"{path.parts[-3]}/{path.stem}" for path in files) == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_installed_recipe_loads_and_round_trips(name: str):
    recipe = catalog.load_recipe(name)
    assert recipe.origin == name
    assert name.startswith((f"{recipe.method}/", "own/"))
    assert isinstance(recipe.network, catalog.method_of(recipe).network)
    text = catalog.dump(recipe)
    assert catalog.parse(text) == recipe
    assert "extends" not in tomllib.loads(text)


def test_an_uninstalled_method_is_named():
    recipe = catalog.load_recipe(RECIPES[0]).model_copy(update={"method": "plyf"})
    with pytest.raises(ConfigError) as caught:
        catalog.method_of(recipe)
    assert 'unknown method "plyf"; did you mean "plif"?' in str(caught.value)
