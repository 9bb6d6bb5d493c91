"""The `[network]` section of a GLIF recipe."""

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from spikeloom.methods.ann import CompactFromAnn

Unit = Annotated[float, Field(ge=0, le=1)]
Open = Annotated[float, Field(gt=0, lt=1)]

Image = Literal[
    "resnet18", "resnet19", "resnet34", "resnet18ms", "resnet34ms", "cifarnet", "compact"
]
Events = Literal["sew7-wide", "sew7"]
IMAGE_NETWORKS: tuple[str, ...] = get_args(Image)
EVENT_NETWORKS: tuple[str, ...] = get_args(Events)


class GlifNetwork(CompactFromAnn):
    """A network of the GLIF paper and its code.

    resnet18    images, 3x3 stem, 2+2+2+2 basic blocks of 64, 128, 256, 512 channels (CIFAR)
    resnet19    images, 3x3 stem, 3+3+2 basic blocks of 128, 256, 512 channels (CIFAR)
    resnet34    images, 7x7 stem, 3+4+6+3 basic blocks of 64, 128, 256, 512 channels (ImageNet)
    resnet18ms  images, 7x7 stem, 2+2+2+2 blocks with neurons before convolutions (ImageNet)
    resnet34ms  the same with 3+4+6+3 blocks (ImageNet)
    cifarnet    images, 5 convolutions of 128 to 1024 channels, 3 linear layers (CIFAR)
    sew7-wide   frames of 48x48, 7 spike-element-wise blocks, "7B-wideNet" (CIFAR10-DVS)
    sew7        frames of 128x128, 7 spike-element-wise blocks, all pooled (CIFAR10-DVS)
    compact     images, 6 convolutions of 64 and 256 channels (`methods.compact`): not published
    """

    name: Literal[Image, Events] = Field(description="layers, as published under this name")
    T: int = Field(
        ge=1, description="time steps that an image is shown, or frames of an event sample"
    )
    neuron: Literal["glif", "glif-f", "lif", "plif"] = Field(
        default="glif",
        description="glif; glif-f: fused, without gates; lif, plif: the baselines for CIFAR10-DVS",
    )
    per: Literal["channel", "layer"] = Field(
        default="channel", description="what shares one set of neuron parameters (glif)"
    )
    gates: Literal["soft", "hard", "static-soft", "static-hard"] = Field(
        default="soft",
        description=(
            "soft: sigmoid; hard: binary, gradient straight through; static: not learned (glif)"
        ),
    )
    gate: Literal["random"] | tuple[Unit, Unit, Unit] = Field(
        default=(0.6, 0.8, 0.6),
        description='initial gates of leak, integration, reset, 0..1; or "random" (glif)',
    )
    gate_sign: Literal["paper", "code"] = Field(
        default="paper",
        description='"code": layer-wise gates start at 1 - gate, as the published code has them',
    )
    learn_membrane: bool = Field(
        default=True, description="learn tau, thresholds, leak, conductances; false: only gates"
    )
    time_wise: bool = Field(
        default=False, description="tau, thresholds, and leak of their own at each time step (glif)"
    )
    tau: Open = Field(default=0.25, description="initial factor of the exponential leak")
    threshold: Open = Field(
        default=0.5, description="initial firing threshold and amount of the soft reset"
    )
    leak: Open | Literal["threshold/2T"] = Field(
        default=0.0625, description='initial linear leak per step; "threshold/2T" adapts it to T'
    )
    conductance: Open = Field(default=0.5, description="initial weight of the input at each step")
    surrogate: Literal["rectangle", "triangle", "atan"] = Field(
        default="rectangle",
        description="derivative of a spike: the published one, or one of its comments (glif)",
    )
    norm: Literal["tdbn", "bn"] = Field(
        default="tdbn",
        description="threshold-dependent BatchNorm, or the ordinary one over all time steps",
    )
    connect: Literal["add", "and", "iand"] = Field(
        default="add", description="how a spike-element-wise block joins its input (sew7)"
    )
    channels: int | None = Field(
        default=None,
        ge=2,
        description="width of the first stage, the others in proportion; none: as published",
    )
    head: Literal["auto", "one", "two"] = Field(
        default="auto",
        description="linear layers after pooling; auto: as published, two up to 50 classes",
    )
    gate_lr: float = Field(
        default=0.1, gt=0, description="learning rate of gates, as a multiple of optimizer.lr"
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="part of the target shared by all classes"
    )

    @property
    def initial_leak(self) -> float:
        """`leak` as a number."""
        return self.threshold / (2 * self.T) if isinstance(self.leak, str) else self.leak

    @model_validator(mode="after")
    def _fits_together(self) -> "GlifNetwork":
        if self.neuron in ("lif", "plif") and self.name not in EVENT_NETWORKS:
            raise ValueError(
                f'neuron = "{self.neuron}": a baseline of the event networks; '
                f'{self.name} takes "glif" or "glif-f"'
            )
        if self.neuron == "glif-f" and (self.per == "layer" or not self.learn_membrane):
            raise ValueError(
                'neuron = "glif-f" is per channel, and learns its membrane: '
                'leave out per and learn_membrane, or set neuron = "glif"'
            )
        if self.time_wise and not self.learn_membrane:
            raise ValueError(
                "time_wise = true gives each step parameters to learn: set learn_membrane = true"
            )
        return self
