"""A method and recipes of the tests' own, so that nothing depends on what is installed."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from spikeloom.config.loading import Library
from spikeloom.config.section import Section


class ToyNetwork(Section):
    """The network section of the tests' own method."""

    T: int = Field(default=4, ge=1, description="time steps")
    neuron: Literal["plif", "lif"] = Field(default="plif", description="neuron")
    tau: float = Field(default=2.0, gt=1, description="time constant in time steps")
    v_reset: float | None = Field(default=0.0, description="potential after a spike; none: soft")


DIGITS = """\
title = "digits"
method = "toy"
published = { A = 98.5 }

[data]
name = "digits"
augment = [{ kind = "affine", degrees = 10 }, { kind = "flip" }]

[network]
T = 4

[training]
epochs = 3
"""


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """One method, `toy`, with one recipe, `toy/digits`."""
    path = tmp_path / "installed" / "digits.toml"
    path.parent.mkdir()
    path.write_text(DIGITS)
    return Library(networks={"toy": ToyNetwork}, recipes={"toy/digits": path})
