"""Random changes of training samples; how they compute is in `data`."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from spikeloom.config.data import Augmentation
from spikeloom.config.section import register

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@register
class Affine(Augmentation):
    """Random rotation, translation, and scaling about the image centre, nearest neighbour."""

    kind: str = Field(default="affine", description="random rotation, translation, scaling")
    degrees: float = Field(
        default=30.0, ge=0, le=180, description="angle drawn uniformly from -degrees to degrees"
    )
    translate: float = Field(
        default=0.15, ge=0, lt=1, description="largest shift as a fraction of width and height"
    )
    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(
        default=(0.85, 1.11), description="smallest and largest scale factor"
    )
    fill: int = Field(
        default=0, ge=0, le=255, description="grey level of pixels from outside the image"
    )

    @model_validator(mode="after")
    def _ordered(self) -> "Affine":
        if self.scale[0] > self.scale[1]:
            raise ValueError(
                f"scale = {list(self.scale)}: give the smaller factor first, "
                f"scale = {list(self.scale[::-1])}"
            )
        return self

    def apply(self, inputs: "Tensor", generator: "torch.Generator") -> "Tensor":
        from spikeloom.data.images import augment

        return augment.random_affine(
            inputs,
            generator,
            degrees=self.degrees,
            translate=self.translate,
            scale=self.scale,
            fill=self.fill,
        )


@register
class Crop(Augmentation):
    """Zero padding on all sides, then a random crop back to the original size."""

    kind: str = Field(default="crop", description="random crop of the zero-padded image")
    padding: int = Field(default=4, ge=1, description="pixels added on each side before the crop")

    def apply(self, inputs: "Tensor", generator: "torch.Generator") -> "Tensor":
        from spikeloom.data.images import augment

        return augment.random_crop(inputs, self.padding, generator)


@register
class Flip(Augmentation):
    """Random mirror image, left and right exchanged."""

    kind: str = Field(default="flip", description="random horizontal flip")
    p: float = Field(default=0.5, ge=0, le=1, description="probability that a sample is mirrored")

    def apply(self, inputs: "Tensor", generator: "torch.Generator") -> "Tensor":
        from spikeloom.data.images import augment

        return augment.random_flip(inputs, self.p, generator)


@register
class AlternatingFlip(Augmentation):
    """The mirror image in every second epoch, of half of the samples in the even ones: each is seen
    from both sides in any two epochs (Jordan, 2024)."""

    kind: str = Field(default="alternating_flip", description="mirrored in every second epoch")

    def apply(self, inputs: "Tensor", generator: "torch.Generator") -> "Tensor":
        from spikeloom.data.images import augment

        epoch, samples = (getattr(generator, name, None) for name in ("epoch", "samples"))
        if epoch is None or samples is None:
            raise TypeError("alternating_flip needs the generator of a Loader, which knows epochs")
        return augment.alternating_flip(inputs, epoch, samples)


@register
class AutoAugment(Augmentation):
    """A learned policy: for each image one of 25 pairs of random changes, drawn uniformly."""

    frames: ClassVar[bool] = False
    kind: str = Field(
        default="autoaugment", description="a learned policy of changes of images of 8 bits"
    )
    policy: Literal["cifar10", "imagenet", "svhn"] = Field(
        default="cifar10", description="data set that the policy was learned on"
    )
    fill: int = Field(
        default=128, ge=0, le=255, description="grey level of pixels from outside the image"
    )

    def apply(self, inputs: "Tensor", generator: "torch.Generator") -> "Tensor":
        from spikeloom.data.images.autoaugment import random_policy

        return random_policy(inputs, self.policy, self.fill, generator)


@register
class Cutout(Augmentation):
    """Squares of zeros around random pixels; what lies outside the image is cut off."""

    kind: str = Field(default="cutout", description="squares of zeros")
    size: int = Field(default=16, ge=1, description="side of a square in pixels")
    holes: int = Field(default=1, ge=1, description="squares in each sample")

    def apply(self, inputs: "Tensor", generator: "torch.Generator") -> "Tensor":
        from spikeloom.data.images import augment

        return augment.random_holes(inputs, self.size, self.holes, generator)
