"""The schema of a recipe: every field with its type, range, default, and meaning.

A recipe is one experiment, in sections (`config.section`). Every field says what it means:
`spikeloom config explain` prints it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from spikeloom.config.data import DataConfig
from spikeloom.config.section import Component, Section

if TYPE_CHECKING:
    # What components are given and build; this layer never runs any of it.
    import torch
    from torch import Tensor

    Split = Any
    DataSet = Any
    Classifier = Any
    Callback = Any
    LossFunction = Callable[[Any, Tensor], Tensor]


class Optimizer(Component):
    """The update rule; one group holds all parameters unless the method says otherwise."""

    what: ClassVar[str] = "optimizer"
    name: str = Field(default="adam", description="update rule")
    lr: float = Field(default=1e-3, gt=0, description="learning rate at the start of the schedule")
    weight_decay: float = Field(
        default=0.0, ge=0, description="decay of the weights: an L2 penalty, decoupled in adamw"
    )

    def build(self, groups: list[dict[str, Any]]) -> "torch.optim.Optimizer":
        """The optimizer of these parameter groups, each with a learning rate `lr` of its own."""
        raise NotImplementedError


class Schedule(Component):
    """The learning rate of epoch e = 0, 1, ...; it is constant within an epoch, unless `each_step`:
    then e is the epochs that have passed, with the part of the one that runs.

    In the first `warmup_epochs` whole epochs w = 0, 1, ... it is the same times
    (w + 1) / warmup_epochs; or, in the first `warmup_steps` optimizer steps i = 0, 1, ..., times
    (i + 1) / warmup_steps.
    """

    what: ClassVar[str] = "schedule"
    name: str = Field(default="constant", description="shape of the learning rate over epochs")
    warmup_epochs: int = Field(
        default=0, ge=0, description="first epochs over which the rate rises linearly from near 0"
    )
    warmup_steps: int = Field(
        default=0, ge=0, description="the same in optimizer steps: the rate then changes each step"
    )
    warmup_first_epoch_only: bool = Field(
        default=False, description="warmup_steps end with epoch 0, also where it has fewer steps"
    )
    begin: int = Field(
        default=0, ge=0, description="epoch that the schedule counts as its first: a restart there"
    )
    each_step: bool = Field(
        default=False, description="the rate changes at each optimizer step, not each epoch"
    )

    @model_validator(mode="after")
    def _one_warmup(self) -> "Schedule":
        if self.warmup_epochs and self.warmup_steps:
            raise ValueError(
                f"warmup_epochs = {self.warmup_epochs} and warmup_steps = {self.warmup_steps}: "
                "give one of them"
            )
        return self

    def shape(self, lr: float, epoch: float) -> float:
        """The rate of `epoch`, counted from `begin`, for an initial rate `lr`, without warm-up."""
        raise NotImplementedError

    def stretched(self, factor: float) -> Self:
        """The schedule for a training that is `factor` times as long, its warm-up as it is."""
        return self

    def rate(self, lr: float, epoch: float, step: int | None = None) -> float:
        """The rate of `epoch` for a group whose initial rate is `lr`; 2.5 is the middle of epoch 2.

        `step` counts the optimizer steps since the start of training; None is after the warm-up.
        """
        e = max(0, epoch - self.begin) if self.each_step else max(0, int(epoch) - self.begin)
        epoch = int(epoch)
        over = epoch > 0 and self.warmup_first_epoch_only
        if step is not None and step < self.warmup_steps and not over:
            return self.shape(lr, e) * (step + 1) / self.warmup_steps
        if epoch < self.warmup_epochs:
            return self.shape(lr, e) * (epoch + 1) / self.warmup_epochs
        return self.shape(lr, e)


class Protocol(Component):
    """How the reported result is chosen: which samples train and validate, and which epoch counts.

    `metric` names the figure that chooses. `validates_like_training`: validation samples are
    shuffled, changed as training samples are, and the last partial batch is dropped.
    """

    what: ClassVar[str] = "protocol"
    name: str = Field(default="A", description="A: best test epoch; B: best validation epoch")

    @property
    def metric(self) -> str:
        return "test"

    @property
    def validates_like_training(self) -> bool:
        return False

    def splits(self, data: "DataSet") -> "tuple[Split, Split | None]":
        """The samples to train on and, where the protocol validates, those to validate on."""
        raise NotImplementedError

    def better(self, value: float, best: float) -> bool:
        """Whether an epoch of this figure takes the place of the best one so far."""
        return value > best


class Loss(Component):
    """What training makes small; evaluations report it too."""

    what: ClassVar[str] = "loss"
    name: str = Field(default="method", description="what training makes small")

    def build(self, classifier: "Classifier", labels: "Tensor") -> "LossFunction":
        """The function (output, targets) -> scalar for `classifier`; `labels` `[N]` are those of
        all samples to train on."""
        raise NotImplementedError


class CallbackConfig(Component):
    """What else takes part in a training; `build` gives a `components.callbacks.Callback`."""

    what: ClassVar[str] = "callback"
    tag: ClassVar[str] = "kind"
    kind: str = Field(description="which one")

    def build(self) -> "Callback":
        """The callback before the first step."""
        raise NotImplementedError


class StartConfig(Section):
    """Weights to begin with, and which of them stay as they are."""

    name: str | None = Field(
        default=None,
        min_length=1,
        description="run folder, .safetensors, or checkpoint (.pt); none: as initialised",
    )
    freeze: tuple[str, ...] = Field(
        default=(), description="parameters that do not learn, as patterns: conv.* or *.weight"
    )


class TrainingConfig(Section):
    """How long to train, where, and in which arithmetic."""

    epochs: int = Field(ge=1, description="passes over the training set")
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d{1,2})?)$",
        description="auto (cuda if there is one), cpu, cuda, or cuda:N",
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="autocast type of the network; parameters stay float32"
    )
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="CPU threads; none: PyTorch's own choice"
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
    watch: Literal["off", "warn", "stop"] = Field(
        default="warn",
        description="what to do where layers are found silent, saturated, or without gradient",
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
    published: dict[str, Annotated[float, Field(ge=0, le=100)]] = Field(
        default={}, description="published accuracy in percent, by protocol"
    )
    notes: str = Field(
        default="",
        description="what is followed where the paper and its code differ, and other remarks",
    )
    data: DataConfig = Field(description="data set and batches")
    network: SerializeAsAny[Section] = Field(description="the method's network")
    optimizer: SerializeAsAny[Optimizer] = Field(
        default_factory=lambda: Optimizer.model_validate({}), description="update rule"
    )
    schedule: SerializeAsAny[Schedule] = Field(
        default_factory=lambda: Schedule.model_validate({}), description="learning rate"
    )
    protocol: SerializeAsAny[Protocol] = Field(
        default_factory=lambda: Protocol.model_validate({}),
        description="choice of the reported accuracy",
    )
    loss: SerializeAsAny[Loss] = Field(
        default_factory=lambda: Loss.model_validate({}), description="what is made small"
    )
    start: StartConfig = Field(
        default=StartConfig(), description="weights of another run to begin with"
    )
    callbacks: tuple[SerializeAsAny[CallbackConfig], ...] = Field(
        default=(), description="what else takes part in the training, in this order"
    )
    training: TrainingConfig = Field(description="length, device, arithmetic")
    checkpoint: CheckpointConfig = Field(
        default=CheckpointConfig(), description="when checkpoints are written"
    )
    logging: LoggingConfig = Field(default=LoggingConfig(), description="what is recorded")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for TOML: no None, "none" where None differs from the field's default."""
        return _to_plain(self)


def _to_plain(value: Any) -> Any:
    if isinstance(value, Section):
        plain = {}
        for name, field in type(value).model_fields.items():
            item = getattr(value, name)
            if item is not None:
                plain[name] = _to_plain(item)
            elif field.default is not None:
                plain[name] = "none"
        return plain
    if isinstance(value, tuple):
        return [_to_plain(item) for item in value]
    return value
