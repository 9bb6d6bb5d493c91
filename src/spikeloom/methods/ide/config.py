"""The `[network]` section of an IDE recipe."""

from typing import Literal

from pydantic import Field, model_validator

from spikeloom.config.section import Section

Solver = Literal[
    "broyden", "anderson", "fixed-point", "dense", "published-broyden", "published-iter"
]
Quirk = Literal["double-update", "event-mean", "eval-iteration"]


class IdeNetwork(Section):
    """A feedback network of the IDE paper: published layers and widths unless `channels` is given.

    f64c5       one layer of 64 channels, 5x5 convolutions: input, and feedback of the layer to
                itself
    f400        one layer of 400 neurons, linear maps
    alexnet-f   five convolutional layers (96, 256, 384, 384, 256), feedback from the last to the
                first
    cifarnet-f  the same with 128, 256, 512, 1024, 512 channels
    compact     three convolutional layers (64, 256, 256) behind the fixed first layer of
                `methods.compact`, feedback from the last to the first: not published
    """

    name: Literal["f64c5", "f400", "alexnet-f", "cifarnet-f", "compact"] = Field(
        description="layers, as published under this name"
    )
    T: int = Field(
        ge=1, description="time steps that an image is shown, or frames of an event sample"
    )
    neuron: Literal["if", "lif"] = Field(
        default="lif", description="if does not leak; lif keeps `leak` of its potential per step"
    )
    leak: float = Field(
        default=0.95, gt=0, lt=1, description="part of the potential left after a step (lif)"
    )
    v_threshold: float = Field(
        default=2.0, gt=0, description="firing threshold; also divides the current in the rate map"
    )
    dropout: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="dropout after every transform, one mask over time and in the gradient",
    )
    restriction: Literal["spectral", "weight-norm", "none"] = Field(
        default="spectral",
        description="what keeps the feedback a contraction: its spectral norm (published), the "
        "norm of each unit's weights, or nothing",
    )
    norm_range: float = Field(
        default=1.0, gt=0, description="largest norm of the restricted feedback weight"
    )
    padding_x: int | None = Field(
        default=None,
        ge=0,
        description="padding of the input convolution of f64c5; none: 2 for images, 1 for frames "
        "as in the authors' script (2 gives the published N-MNIST counts)",
    )
    channels: tuple[int, ...] | None = Field(
        default=None,
        description="neurons or channels of each spiking layer; none: as published",
    )
    solver: Solver = Field(
        default="broyden",
        description="how the implicit gradient is solved; published-* reproduce the authors' "
        "code, published-iter with its wrong gradient",
    )
    max_iter: int = Field(
        default=30,
        ge=0,
        description="most products with the Jacobian per step; 0: the one-step gradient",
    )
    tol: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="residual, relative to the right-hand side, at which the solver stops; none: "
        "1e-6 in float32, 1e-10 in float64",
    )
    damping: float = Field(
        default=0.5, gt=0, le=1, description="part of the residual that is added (fixed-point)"
    )
    jacobian_norm: Literal["batch", "running"] = Field(
        default="batch",
        description="BatchNorm statistics inside the Jacobian: of the batch, gradients through "
        "them included (published), or the running ones",
    )
    decay: Literal["all", "weights"] = Field(
        default="all",
        description="what weight decay acts on: every parameter (published), or weights only, not "
        "biases, BatchNorm, and the gain of the feedback",
    )
    quirks: tuple[Quirk, ...] = Field(
        default=(),
        description="errors of the authors' code to reproduce: double-update of the input's "
        "running statistics, event-mean written into the last frame, eval-iteration of the "
        "spectral norm in evaluation",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "IdeNetwork":
        layers = {"alexnet-f": 5, "cifarnet-f": 5, "compact": 3}.get(self.name, 1)
        if self.channels is not None and (len(self.channels) != layers or min(self.channels) < 1):
            raise ValueError(
                f"channels = {list(self.channels)}: {self.name} has {layers} spiking "
                f"layer{'s' * (layers > 1)}; give {layers} positive "
                f"number{'s' * (layers > 1)} or leave the key out"
            )
        if self.padding_x is not None and self.name != "f64c5":
            raise ValueError(f"padding_x = {self.padding_x}: only f64c5 has it; leave the key out")
        return self
