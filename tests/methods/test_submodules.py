"""What a network is made of is found by its names."""

import pytest
import torch

from spikeloom.data.base import DataSpec
from spikeloom.methods.catalog import build, load_recipe

DIGITS = DataSpec("digits", (1, 8, 8), tuple("0123456789"))
EVENTS = DataSpec("digits-events", (2, 16, 16), tuple("0123456789"), kind="events")


@pytest.mark.parametrize(
    ("recipe", "spec"),
    [
        *((f"{method}/digits", DIGITS) for method in ("plif", "glif", "ide", "dsr")),
        ("fs/digits-events", EVENTS),
    ],
)
def test_no_attribute_of_a_class_hides_a_submodule(recipe: str, spec: DataSpec) -> None:
    """PyTorch looks for submodules last: one that is called as an attribute is never found."""
    network = build(load_recipe(recipe), spec, torch.device("cpu"))
    for path, module in network.named_modules():
        for name, part in module.named_children():
            assert getattr(module, name) is part, f"{path}.{name}"
