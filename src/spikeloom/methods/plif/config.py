"""The `[network]` section of a PLIF recipe."""

from typing import Literal

from pydantic import Field, model_validator

from spikeloom.methods.ann import CompactFromAnn


class PlifNetwork(CompactFromAnn):
    """A network of the PLIF paper: published layers and widths unless a width is given.

    mnist          image, 2 convolutions of 128 channels, 2 linear layers (also Fashion-MNIST)
    cifar10        image, 6 convolutions of 256 channels, 2 linear layers
    nmnist         frames, 2 convolutions of 128 channels, 2 linear layers
    cifar10dvs     frames, 4 convolutions of 128 channels, 2 linear layers
    dvs128gesture  frames, 5 convolutions of 128 channels, 2 linear layers
    compact        image, 6 convolutions of 64 and 256 channels (`methods.compact`): not published
    """

    name: Literal["mnist", "cifar10", "nmnist", "cifar10dvs", "dvs128gesture", "compact"] = Field(
        description="layers, as published for the data set of this name"
    )
    T: int = Field(
        ge=1, description="time steps that an image is shown, or frames of an event sample"
    )
    neuron: Literal["plif", "lif"] = Field(
        default="plif", description="plif learns one tau per layer; lif keeps it fixed"
    )
    tau: float = Field(
        default=2.0,
        ge=1,
        description="membrane time constant in time steps; plif: its initial value, above 1",
    )
    v_threshold: float = Field(default=1.0, gt=0, description="firing threshold")
    v_reset: float | Literal["soft"] = Field(
        default=0.0, description='potential after a spike; "soft" subtracts the threshold instead'
    )
    detach_reset: bool = Field(
        default=True, description="keep the spike inside the reset out of the gradient"
    )
    alpha: float = Field(default=2.0, gt=0, description="steepness of the ATan surrogate gradient")
    learn_alpha: bool = Field(default=False, description="learn one alpha per layer")
    pool: Literal["max", "avg"] = Field(default="max", description="pooling, 2x2 with stride 2")
    batchnorm: Literal["per_step", "folded"] = Field(
        default="per_step",
        description="statistics of each time step (published), or of all time steps together",
    )
    channels: int | None = Field(
        default=None, ge=1, description="width of the convolutions; none: as published"
    )
    layers: int | None = Field(
        default=None,
        ge=1,
        description="convolutions of an event network; none: as published (2, 4, 5)",
    )
    hidden: int | None = Field(
        default=None,
        ge=1,
        description="width of the first linear layer; none: 2048 (images), inputs / 4 (frames)",
    )
    dropout: float = Field(
        default=0.5, ge=0, lt=1, description="dropout before linear layers, one mask over time"
    )
    votes: int = Field(default=10, ge=1, description="output neurons per class")

    @model_validator(mode="after")
    def _fits_together(self) -> "PlifNetwork":
        if self.neuron == "plif" and self.tau <= 1:
            raise ValueError(
                f"tau = {self.tau}: w = -ln(tau - 1) needs tau above 1 (or set neuron = lif)"
            )
        if self.layers is not None and self.name in ("mnist", "cifar10", "compact"):
            raise ValueError(
                f"layers = {self.layers}: the layers of {self.name!r} are fixed; leave the key out"
            )
        if not isinstance(self.v_reset, str) and self.v_reset >= self.v_threshold:
            raise ValueError(
                f"v_reset = {self.v_reset}: expected below v_threshold = {self.v_threshold}"
            )
        return self
