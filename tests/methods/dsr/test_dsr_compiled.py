"""`compile=true` with batches of several sizes: training, the end of an epoch, evaluation."""

from pathlib import Path

import pytest

from spikeloom.methods.catalog import load_recipe
from spikeloom.training import train


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # PyTorch warns of its own doings
def test_batches_of_several_sizes_compile(tmp_path: Path) -> None:
    changes = ["epochs=1", "T=2", "channels=4", "compile=true", "drop_last=false"]
    recipe = load_recipe("dsr/digits", changes)
    assert train(recipe, tmp_path / "run").epochs == 1
