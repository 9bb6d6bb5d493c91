"""The schema of a recipe: every field with its type, range, default, and meaning.

A recipe is one experiment, in sections (`config.section`). Every field says what it means:
`spikeloom config explain` prints it.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, model_validator

from spikeloom.config.data import DataConfig
from spikeloom.config.section import Section


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
    warmup_first_epoch_only: bool = Field(
        default=False, description="warmup_steps end with epoch 0, also where it has fewer steps"
    )

    @model_validator(mode="after")
    def _one_warmup(self) -> "ScheduleConfig":
        if self.warmup_epochs and self.warmup_steps:
            raise ValueError(
                f"warmup_epochs = {self.warmup_epochs} and warmup_steps = {self.warmup_steps}: "
                "give one of them"
            )
        if self.warmup_first_epoch_only and not self.warmup_steps:
            raise ValueError("warmup_first_epoch_only = true has no effect without warmup_steps")
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
