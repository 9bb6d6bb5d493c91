"""The `[network]` section of a DSR recipe."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from spikeloom.methods.ann import FromAnn

_NETWORKS = Literal[
    "preresnet18",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "compact",
    "imagenet-preresnet18",
    "imagenet-preresnet34",
    "imagenet-preresnet50",
]


class DsrNetwork(FromAnn):
    """A network of the DSR paper and its code: published layers and widths unless others are given.

    preresnet18                     pre-activation ResNet for small images (CIFAR)
    vgg11 (13, 16, 19)              plain convolutions with average pooling (CIFAR10-DVS)
    compact                         6 convolutions (`methods.compact`): not published
    imagenet-preresnet18 (34, 50)   the ImageNet form: another stem, no biases, BN in shortcuts
    """

    name: _NETWORKS = Field(description="layers")
    T: int = Field(
        ge=1, description="time steps that an image is shown, or frames of an event sample"
    )
    neuron: Literal["if", "lif", "relu"] = Field(
        default="lif", description="spiking neuron; relu is the ANN of the hybrid pipeline"
    )
    threshold: float | None = Field(
        default=None, description="initial firing threshold; none: 6 (if), 0.3 (lif)"
    )
    alpha: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="fires at alpha times the threshold; none: 0.5 (if), 0.3 (lif)",
    )
    threshold_bound: float | None = Field(
        default=None, gt=0, description="smallest threshold; none: 0.01 (if), 0.0005 (lif)"
    )
    tau: float = Field(default=1.0, gt=0, description="membrane time constant (lif)")
    delta_t: float = Field(
        default=0.05, gt=0, description="length of a time step, in the unit of tau (lif)"
    )
    learn_threshold: bool = Field(default=True, description="learn one threshold per layer")
    threshold_gradient: Literal["published", "true"] = Field(
        default="published",
        description=(
            "factor of the thresholds' gradient: that of the code (if: 1, imagenet 0.001; lif: "
            "delta_t), or the derivative (if: 1; lif: 1 / delta_t)"
        ),
    )
    threshold_reduction: Literal["mean", "sum"] = Field(
        default="mean",
        description=(
            "thresholds' gradient over processes: mean as for weights; sum as in the code, larger "
            "by their number"
        ),
    )
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="dropout per step; none: 0 (resnet), 0.1 (vgg)"
    )
    channels: int = Field(default=64, ge=1, description="width of the first stage")
    blocks: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        default=None,
        description="residual blocks (resnet) or convolutions (vgg) per stage; none: as published",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "DsrNetwork":
        if self.blocks == ():
            raise ValueError("blocks = []: give at least one stage, or leave the key out")
        if self.neuron == "relu" and self.T != 1:
            raise ValueError(
                f"T = {self.T}: a network of relu answers at once; set T = 1 (or another neuron)"
            )
        if self.neuron == "relu" and self.thresholds is not None:
            raise ValueError(
                f'thresholds = "{self.thresholds}": relu has none; leave the key out, or set '
                "neuron = if or lif"
            )
        if self.threshold_bound is not None and self.threshold is not None:
            low, start = self.threshold_bound, self.threshold
            if start < low:
                raise ValueError(f"threshold = {start}: expected threshold_bound = {low} or more")
        return self
