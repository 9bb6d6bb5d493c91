"""All methods and recipes that are installed: the folders beside this file, and those that other
packages declare as entry points of the group "spikeloom.methods".

A folder whose `__init__` has `method = Method(...)` is a method; the TOML files of its `recipes/`
are its recipes, called `<method>/<file name>`. A file whose name begins with an underscore is a
base for others to extend, and is not listed. Nothing here imports torch.
"""

import functools
import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from spikeloom import extensions
from spikeloom import methods as package
from spikeloom.config import loading
from spikeloom.config.loading import Library, dump
from spikeloom.config.schema import Recipe
from spikeloom.errors import ConfigError
from spikeloom.methods.base import Method
from spikeloom.suggest import did_you_mean

if TYPE_CHECKING:
    import torch

    from spikeloom.data.base import DataSpec
    from spikeloom.nn.classifier import Classifier

__all__ = ["dump", "library", "load_recipe", "method_of", "methods", "parse", "recipe_names"]


OWN_LOOP = "own-loop"
"""What runs of `spikeloom.Run` have in the place of a method."""


@functools.cache
def methods() -> Mapping[str, Method]:
    """Every installed method by name."""
    return {name: module.method for name, module in _modules().items()}


def method_of(recipe: Recipe) -> Method:
    """The method that the recipe names; ConfigError if it is not installed."""
    known = methods()
    if recipe.method not in known:
        hint = did_you_mean(recipe.method, known)
        raise ConfigError(f'{recipe.origin}: method: unknown method "{recipe.method}"{hint}')
    return known[recipe.method]


def build(recipe: Recipe, data: "DataSpec", device: "torch.device") -> "Classifier":
    """The recipe's network on `device`, its neurons on the backend of `training.backend`."""
    from spikeloom.neurons import Neuron

    classifier = method_of(recipe).build(recipe.network, data).to(device)
    for module in classifier.modules():
        if isinstance(module, Neuron):
            module.backend = recipe.training.backend
    return classifier


@functools.cache
def library() -> Library:
    """What recipes may refer to: the installed methods and their recipes, bases included."""
    folders = {
        name: Path(str(module.__file__)).parent / "recipes" for name, module in _modules().items()
    }
    return Library(
        networks={name: method.network for name, method in methods().items()},
        recipes={
            f"{name}/{path.stem}": path
            for name, folder in folders.items()
            for path in sorted(folder.glob("*.toml"))
        },
    )


def recipe_names() -> list[str]:
    """The names of all recipes, such as "plif/digits", in alphabetical order."""
    return sorted(name for name in library().recipes if not name.partition("/")[2].startswith("_"))


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of this name or in this .toml file, with `key=value` overrides applied.

    Raises ConfigError with one line for each mistake.
    """
    return loading.load(name_or_path, overrides, library())


def parse(text: str, label: str = "recipe", overrides: Sequence[str] = ()) -> Recipe:
    """The recipe that `dump` wrote, with overrides; `label` names its source in error texts."""
    if re.search(rf'(?m)^method = "{OWN_LOOP}"$', text):
        raise ConfigError(
            f"{label} is of a run of your own loop (sl.Run), and its network is in your program: "
            "start the program again to go on; `spikeloom report`, `compare` and `doctor` read its "
            "figures, and weights.safetensors holds its weights, for load_state_dict"
        )
    return loading.parse(text, library(), label, overrides)


@functools.cache
def _modules() -> dict[str, ModuleType]:
    """The module of each method, by the method's name."""
    modules = {module.method.name: module for module in _beside_this()}
    for label, module in extensions.modules("spikeloom.methods"):
        method = getattr(module, "method", None)
        if not isinstance(method, Method):
            extensions.leave_out(label, "it has no `method = Method(...)`")
        elif modules.setdefault(method.name, module) is not module:
            extensions.leave_out(label, f"there is a method {method.name} already")
    return modules


def _beside_this() -> Iterator[ModuleType]:
    for entry in pkgutil.iter_modules(package.__path__):
        if entry.ispkg:
            module = importlib.import_module(f"{package.__name__}.{entry.name}")
            if isinstance(getattr(module, "method", None), Method):
                yield module
