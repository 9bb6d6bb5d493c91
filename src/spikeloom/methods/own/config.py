"""The `[network]` section of a recipe for series."""

from typing import Annotated

from pydantic import Field

from spikeloom.config.section import Section


class SeriesNetwork(Section):
    """Linear layers with LIF neurons, then a linear layer that is read over time."""

    T: int = Field(ge=1, description="time steps of a series")
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(128, 128), min_length=1, description="widths of the hidden layers"
    )
    tau: float = Field(default=4.0, ge=1, description="membrane time constant in time steps")
    learn_tau: bool = Field(default=True, description="learn one tau for each layer (PLIF)")
    tau_readout: float = Field(
        default=8.0, ge=1, description="time constant of the leaky integrator that is read"
    )
    dropout: float = Field(
        default=0.2, ge=0, lt=1, description="dropout before linear layers, one mask over time"
    )
