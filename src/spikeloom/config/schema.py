"""The schema of a recipe: every field with its type, range, default, and meaning.

A recipe is one experiment. Its sections are frozen pydantic models: unknown keys are errors, text
is never read as a number, and every field says what it means (`spikeloom config explain` prints
it). TOML arrays become tuples. TOML has no null, so the text "none" stands for None wherever a
field accepts None.
"""

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator


class Section(BaseModel):
    """Base class of a recipe and of its sections.

    A method declares the schema of its `[network]` section as a subclass: one line of docstring,
    every field as `Field(default=..., ge=..., description=...)`, with a range where it has one.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _from_toml(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        return {key: _plain(cls, key, value) for key, value in values.items()}


def accepts_none(annotation: object) -> bool:
    """Whether a field with this annotation may be None."""
    if get_origin(annotation) in (Union, types.UnionType):
        return any(accepts_none(option) for option in get_args(annotation))
    return annotation is None or annotation is types.NoneType


def _plain(section: type[Section], key: object, value: object) -> object:
    field = section.model_fields.get(str(key))
    if value == "none" and field is not None and accepts_none(field.annotation):
        return None
    return _as_tuple(value)


def _as_tuple(value: object) -> object:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value


class Affine(Section):
    """Random rotation, translation, and scaling about the image centre, nearest neighbour."""

    kind: Literal["affine"] = Field(
        default="affine", description="random rotation, translation, scaling"
    )
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


class Crop(Section):
    """Zero padding on all sides, then a random crop back to the original size."""

    kind: Literal["crop"] = Field(
        default="crop", description="random crop of the zero-padded image"
    )
    padding: int = Field(default=4, ge=1, description="pixels added on each side before the crop")


class Flip(Section):
    """Random mirror image, left and right exchanged."""

    kind: Literal["flip"] = Field(default="flip", description="random horizontal flip")
    p: float = Field(default=0.5, ge=0, le=1, description="probability that a sample is mirrored")


class AutoAugment(Section):
    """A learned policy: for each image one of 25 pairs of random changes, drawn uniformly."""

    kind: Literal["autoaugment"] = Field(
        default="autoaugment", description="a learned policy of changes of images of 8 bits"
    )
    policy: Literal["cifar10", "imagenet", "svhn"] = Field(
        default="cifar10", description="data set that the policy was learned on"
    )
    fill: int = Field(
        default=128, ge=0, le=255, description="grey level of pixels from outside the image"
    )


class Cutout(Section):
    """Squares of zeros around random pixels; what lies outside the image is cut off."""

    kind: Literal["cutout"] = Field(default="cutout", description="squares of zeros")
    size: int = Field(default=16, ge=1, description="side of a square in pixels")
    holes: int = Field(default=1, ge=1, description="squares in each sample")


Augmentation = Annotated[Affine | Crop | Flip | AutoAugment | Cutout, Field(discriminator="kind")]


class ImagesConfig(Section):
    """How images from a folder are cut to one size when they are decoded; no effect on others.

    Training resizes a random part of the image to size x size; evaluation resizes the image, its
    shorter side to `shorter_side`, and cuts out the centre.
    """

    size: int = Field(default=224, ge=1, description="side of what the network is given, in pixels")
    shorter_side: int = Field(
        default=256, ge=1, description="pixels before the centre is cut out (evaluation)"
    )
    scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = Field(
        default=(0.08, 1.0), description="smallest and largest part of the area (training)"
    )
    ratio: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(
        default=(3 / 4, 4 / 3),
        description="smallest and largest width / height of the part (training)",
    )

    @model_validator(mode="after")
    def _ordered(self) -> "ImagesConfig":
        if self.shorter_side < self.size:
            raise ValueError(
                f"shorter_side = {self.shorter_side} is below size = {self.size}: give that or more"
            )
        for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if low > high:
                raise ValueError(f"{name} = {[low, high]}: give the smaller number first")
        return self


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
    augment: tuple[Augmentation, ...] = Field(
        default=(), description="random changes of training samples, applied in this order"
    )
    drop_last: bool = Field(
        default=True,
        description="skip the last training batch of an epoch if it is smaller than the rest",
    )
    workers: int = Field(
        default=0,
        ge=0,
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
    options: dict[str, str] = Field(
        default={}, description="the data set's own choices, for example the split of cifar10-dvs"
    )
    frames: FramesConfig = Field(default=FramesConfig(), description="frames of event data")
    images: ImagesConfig = Field(
        default=ImagesConfig(), description="size of images from folders (imagenet, imagefolder)"
    )


class OptimizerConfig(Section):
    """The update rule; one group holds all parameters unless the method says otherwise."""

    name: Literal["adam", "adamw", "sgd"] = Field(default="adam", description="update rule")
    lr: float = Field(default=1e-3, gt=0, description="learning rate at the start of the schedule")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        default=(0.9, 0.999),
        description="decay of the running mean and square (adam, adamw)",
    )
    eps: float = Field(default=1e-8, gt=0, description="added to the denominator (adam, adamw)")
    amsgrad: bool = Field(
        default=False, description="divide by the largest running square so far (adam, adamw)"
    )
    weight_decay: float = Field(
        default=0.0, ge=0, description="L2 penalty (adam, sgd) or decoupled decay (adamw)"
    )
    momentum: float = Field(default=0.0, ge=0, lt=1, description="momentum (sgd only)")
    nesterov: bool = Field(default=False, description="Nesterov's form of the momentum (sgd only)")

    @model_validator(mode="after")
    def _momentum_is_used(self) -> "OptimizerConfig":
        if self.momentum and self.name != "sgd":
            raise ValueError(
                f"momentum = {self.momentum} has no effect on {self.name}; "
                'set name = "sgd" or momentum = 0'
            )
        if self.amsgrad and self.name == "sgd":
            raise ValueError("amsgrad = true has no effect on sgd; set name = adam or adamw")
        if self.nesterov and not self.momentum:
            raise ValueError('nesterov = true needs name = "sgd" and momentum above 0')
        return self


class ScheduleConfig(Section):
    """The learning rate of epoch e = 0, 1, ...; it is constant within an epoch.

    constant         lr
    cosine           eta_min + (lr - eta_min) (1 + cos(pi e / T_max)) / 2; a wave, it rises again
    cosine_restarts  the same with e modulo T_max: it jumps back to lr
    multistep        lr gamma^(number of milestones not above e)
    """

    name: Literal["constant", "cosine", "cosine_restarts", "multistep"] = Field(
        default="constant", description="shape of the learning rate over epochs"
    )
    T_max: int = Field(
        default=64, ge=1, description="epochs from the highest to the lowest rate (cosine)"
    )
    eta_min: float = Field(default=0.0, ge=0, description="lowest learning rate (cosine)")
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="epochs at which the rate is multiplied by gamma (multistep)"
    )
    gamma: float = Field(default=0.1, gt=0, le=1, description="factor at a milestone (multistep)")
    warmup_epochs: int = Field(
        default=0, ge=0, description="first epochs over which the rate rises linearly from near 0"
    )
    warmup_steps: int = Field(
        default=0, ge=0, description="the same in optimizer steps: the rate then changes each step"
    )

    @model_validator(mode="after")
    def _one_warmup(self) -> "ScheduleConfig":
        if self.warmup_epochs and self.warmup_steps:
            raise ValueError(
                f"warmup_epochs = {self.warmup_epochs} and warmup_steps = {self.warmup_steps}: "
                "give one of them"
            )
        return self

    @model_validator(mode="after")
    def _milestones_are_used(self) -> "ScheduleConfig":
        if self.name == "multistep" and not self.milestones:
            raise ValueError('name = "multistep" needs milestones, for example [100, 150]')
        if any(a >= b for a, b in zip(self.milestones, self.milestones[1:], strict=False)):
            raise ValueError(
                f"milestones = {list(self.milestones)}: give different epochs in rising order"
            )
        return self


class ProtocolConfig(Section):
    """How the reported accuracy is chosen.

    A  train on the whole training set, test after every epoch, report the highest test accuracy
    B  hold out part of the training set, report the test accuracy at the best validation accuracy
    """

    name: Literal["A", "B"] = Field(
        default="A", description="A: best test epoch; B: best validation epoch"
    )
    val_ratio: float = Field(
        default=0.15,
        gt=0,
        lt=1,
        description="part of each class that is held out for validation (B)",
    )
    validation: Literal["published", "clean"] = Field(
        default="clean",
        description=(
            "published: training transform, shuffled, last partial batch dropped, ties to the "
            "later epoch; clean: evaluation transform, all samples, the first best epoch (B)"
        ),
    )


class TrainingConfig(Section):
    """How long to train, where, and in which arithmetic."""

    epochs: int = Field(ge=1, description="passes over the training set")
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto (cuda if there is one), cpu, cuda, or cuda:N",
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="autocast type of the network; parameters stay float32"
    )
    threads: int | None = Field(
        default=None, ge=1, description="CPU threads; none: PyTorch's own choice"
    )
    backend: Literal["auto", "eager", "cpu", "gpu"] = Field(
        default="auto",
        description="how neurons run: compiled where possible, plain PyTorch, or one kernel only",
    )
    accumulate: int = Field(
        default=1, ge=1, description="batches whose gradients make one optimizer step"
    )
    clip_norm: float | None = Field(
        default=None, gt=0, description="largest norm of the whole gradient; none: no clipping"
    )
    carry_gradients: bool = Field(
        default=False,
        description="do not clear the gradient after a step: the next one, clipped, is added to it",
    )
    compile: bool = Field(default=False, description="run the network through torch.compile")
    sync_batchnorm: bool = Field(
        default=False,
        description="several processes: BatchNorm with the statistics of the batches of all",
    )
    evaluate_every: int = Field(default=1, ge=1, description="epochs between evaluations")

    @model_validator(mode="after")
    def _gradients_can_be_carried(self) -> "TrainingConfig":
        if self.carry_gradients and self.precision == "float16":
            raise ValueError(
                'carry_gradients = true with precision = "float16": gradients are scaled there, by '
                "a factor that changes; use bfloat16 or float32"
            )
        return self


class CheckpointConfig(Section):
    """When to write a checkpoint besides at the best epoch; last, previous, and best are kept."""

    every_epochs: int = Field(default=1, ge=1, description="epochs between checkpoints")
    every_steps: int | None = Field(
        default=None,
        ge=1,
        description="optimizer steps between checkpoints within an epoch; none: never",
    )
    every_minutes: float | None = Field(
        default=None, gt=0, description="minutes between checkpoints within an epoch; none: never"
    )


class LoggingConfig(Section):
    """What is written while training runs."""

    every_steps: int = Field(
        default=256, ge=1, description="optimizer steps between records of loss and accuracy"
    )
    tensorboard: bool = Field(
        default=True, description="write TensorBoard files into the run folder"
    )


class Recipe(Section):
    """One experiment: data, network, training, and the figure that was published for it.

    `network` is the section of the method called `method`: an instance of that method's own schema.
    """

    title: str = Field(min_length=1, description="one line for lists and reports")
    origin: str = Field(
        default="", description="recipe this one was loaded from; set by the loader"
    )
    method: str = Field(min_length=1, description="published system, see `spikeloom recipes`")
    seed: int = Field(default=2020, ge=0, description="seed of every random stream")
    published: dict[Literal["A", "B"], Annotated[float, Field(ge=0, le=100)]] = Field(
        default={}, description="published accuracy in percent, by protocol"
    )
    notes: str = Field(
        default="",
        description="what is followed where the paper and its code differ, and other remarks",
    )
    data: DataConfig = Field(description="data set and batches")
    network: SerializeAsAny[Section] = Field(description="the method's network")
    optimizer: OptimizerConfig = Field(default=OptimizerConfig(), description="update rule")
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="learning rate")
    protocol: ProtocolConfig = Field(
        default=ProtocolConfig(), description="choice of the reported accuracy"
    )
    training: TrainingConfig = Field(description="length, device, arithmetic")
    checkpoint: CheckpointConfig = Field(
        default=CheckpointConfig(), description="when checkpoints are written"
    )
    logging: LoggingConfig = Field(default=LoggingConfig(), description="what is recorded")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for TOML: no None, "none" where None differs from the field's default."""
        return _to_dict(self)


def _to_dict(section: Section) -> dict[str, Any]:
    values = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if value is None and field.default is None:
            continue
        values[name] = "none" if value is None else _to_plain(value)
    return values


def _to_plain(value: object) -> object:
    if isinstance(value, Section):
        return _to_dict(value)
    if isinstance(value, tuple):
        return [_to_plain(item) for item in value]
    return value
