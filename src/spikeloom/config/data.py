"""The `[data]` section of a recipe: which data set, and how its samples become batches."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny, model_validator

from spikeloom.config.section import Component, Section

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Augmentation(Component):
    """A random change of a batch of training samples, on the device they are on."""

    what: ClassVar[str] = "augmentation"
    tag: ClassVar[str] = "kind"
    frames: ClassVar[bool] = True
    """Whether it is for event frames too; otherwise only for images of 8 bits."""

    kind: str = Field(description="which change")

    def apply(self, inputs: "Tensor", generator: "torch.Generator") -> "Tensor":
        """`inputs` `[B, C, H, W]`, changed by numbers of `generator`; same shape and dtype."""
        raise NotImplementedError


class ImagesConfig(Section):
    """How images from a folder are cut to one size when they are decoded; no effect on others.

    Training resizes a random part of the image to size x size; evaluation resizes the image, its
    shorter side to `shorter_side`, and cuts out the centre.
    """

    size: int = Field(default=224, ge=1, description="side of what the network is given, in pixels")
    shorter_side: int | None = Field(
        default=None,
        ge=1,
        description="pixels before the centre is cut out (evaluation); none: 8/7 of size",
    )
    scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = Field(
        default=(0.08, 1.0), description="smallest and largest part of the area (training)"
    )
    ratio: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(
        default=(3 / 4, 4 / 3),
        description="smallest and largest width / height of the part (training)",
    )

    @model_validator(mode="before")
    @classmethod
    def _followed(cls, values: Any) -> Any:
        """What follows from `size` is not kept: run folders of 0.1 have it written out."""
        as_written = isinstance(values, dict) and values.get("shorter_side") == 256
        if as_written and values.get("size", 224) == 224:
            return {key: value for key, value in values.items() if key != "shorter_side"}
        return values

    @model_validator(mode="after")
    def _ordered(self) -> "ImagesConfig":
        if self.shorter_side is not None and self.shorter_side < self.size:
            raise ValueError(
                f"shorter_side = {self.shorter_side} is below size = {self.size}: give that or more"
            )
        for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if low > high:
                raise ValueError(f"{name} = {[low, high]}: give the smaller number first")
        return self

    @property
    def resized(self) -> int:
        """`shorter_side`, or what follows from `size`: 256 for 224."""
        return self.shorter_side or round(self.size * 8 / 7)


class FramesConfig(Section):
    """How recordings of events become frames; no effect on images.

    "none" keeps what is usual for the data set (`spikeloom data list` names it). The network's T
    counts all frames, the empty ones included.
    """

    by: Literal["number", "time", "window"] | None = Field(
        default=None,
        description="slices of equal event number, of equal length, or windows of dt; none: usual",
    )
    dt: float | None = Field(
        default=None, gt=0, description="length of a window in milliseconds (window); none: usual"
    )
    begin: Literal["first", "zero"] | None = Field(
        default=None,
        description="windows begin at the first event, or at time 0 (window); none: usual",
    )
    horizon: bool | None = Field(
        default=None,
        description="count only events before T dt on the recording's own clock (window)",
    )
    empty: int | None = Field(
        default=None, ge=0, description="empty frames after those with events; none: usual"
    )
    downsample: int | None = Field(
        default=None, ge=1, description="side of the block of pixels whose counts add; none: usual"
    )
    binary: bool | None = Field(default=None, description="1 where a count is above 0; none: usual")
    normalization: Literal["none", "frequency", "max", "sum", "norm"] = Field(
        default="none", description="of each frame and polarity, when a sample is read"
    )
    resize: int | None = Field(
        default=None,
        ge=1,
        description="side that frames are resized to, bilinear; none: as they are",
    )
    antialias: bool = Field(default=False, description="smooth before resizing to fewer pixels")
    roll: int = Field(
        default=0, ge=0, description="training: shift each sample by up to so many pixels, wrapping"
    )
    deletion: float = Field(
        default=0.0, ge=0, lt=1, description="training: part of the events deleted at random"
    )
    choose: int | None = Field(
        default=None,
        ge=1,
        description="training: so many of the T frames, drawn anew for each batch; none: all",
    )


class DataConfig(Section):
    """Which data set, and how its samples become batches."""

    name: str = Field(min_length=1, description="data set, see `spikeloom data list`")
    root: str | None = Field(
        default=None,
        min_length=1,
        description="folder that holds the files; none: $SPIKELOOM_DATA, then ./data",
    )
    batch_size: int = Field(default=16, ge=1, description="samples in a training batch")
    eval_batch_size: int | None = Field(
        default=None, ge=1, description="samples in an evaluation batch; none: batch_size"
    )
    augment: tuple[SerializeAsAny[Augmentation], ...] = Field(
        default=(), description="random changes of training samples, applied in this order"
    )
    sampling: Literal["all", "balanced"] = Field(
        default="all",
        description="training samples of an epoch: each once, or drawn so that classes are equal",
    )
    drop_last: bool = Field(
        default=True,
        description="skip the last training batch of an epoch if it is smaller than the rest",
    )
    workers: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="processes that read samples; 0 reads them in the training process",
    )
    normalize: Literal["dataset", "none"] = Field(
        default="dataset",
        description="subtract the data set's mean and divide by its deviation, per channel",
    )
    mean: tuple[float, ...] | None = Field(
        default=None,
        description="mean per channel, of images scaled to 0..1; none: the data set's own",
    )
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        default=None, description="deviation per channel; none: the data set's own"
    )
    skip_damaged: bool = Field(
        default=False, description="go on without recordings and images that cannot be read"
    )
    options: dict[str, str] = Field(
        default={}, description="the data set's own choices, for example the split of cifar10-dvs"
    )
    frames: FramesConfig = Field(default=FramesConfig(), description="frames of event data")
    images: ImagesConfig = Field(
        default=ImagesConfig(), description="size of images from folders (imagenet, imagefolder)"
    )
