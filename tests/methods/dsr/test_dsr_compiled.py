"""`compile=true` on a recipe whose last batch is smaller than the others."""

from pathlib import Path

import pytest

from spikeloom.methods.catalog import load_recipe
from spikeloom.training import train


@pytest.mark.slow
def test_a_smaller_last_batch_compiles_too(tmp_path: Path) -> None:
    recipe = load_recipe("dsr/digits", ["epochs=1", "T=2", "channels=4", "compile=true"])
    assert not recipe.data.drop_last
    assert train(recipe, tmp_path / "run").epochs == 1
