"""The `[network]` section of a first-spike recipe."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from spikeloom.config.section import Section

Positive = Annotated[float, Field(gt=0)]
Constants = tuple[Positive, Positive, Positive]


class FsNetwork(Section):
    """A network of first-spike coding, in the form of one of its two implementations.

    fc          linear layers of `hidden` neurons each, and the output layer
    dvsgesture  3 convolutions, 2 poolings, all spiking, 128 recurrent neurons, the output layer
    dvsplane    the same with narrower convolutions, the first 5x5 with stride 2, and 256 neurons
    """

    name: Literal["fc", "dvsgesture", "dvsplane"] = Field(
        description="layers, as published under this name"
    )
    T: int = Field(
        ge=1,
        description="time steps, the empty ones after the data included (data.frames.empty)",
    )
    coded: int | None = Field(
        default=None,
        ge=1,
        description="of T, the steps in which each pixel of an image fires once, the stronger the "
        "earlier (images only); none: half of T",
    )
    form: Literal["kernel", "autograd"] = Field(
        default="kernel",
        description="which published implementation is followed: kernel fires at the threshold, "
        "one step after its input at the earliest, normalises and drops out; autograd fires above "
        "it, two steps after, with recurrent layers",
    )
    neuron: Literal["adlif", "culif", "pculif"] | None = Field(
        default=None,
        description="hidden neurons: adaptive, current-based, or that with learned decays; none: "
        "as published (fc: adlif for kernel, pculif for autograd; convolutions: culif)",
    )
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(256, 256), min_length=1, description="neurons of each hidden layer (fc)"
    )
    recurrent: bool | None = Field(
        default=None,
        description="hidden linear layers hear their own spikes; none: as published (not in fc of "
        "kernel)",
    )
    batchnorm: bool | None = Field(
        default=None,
        description="normalise the hidden linear layers' currents over time and batch; none: as "
        "published (fc of kernel only)",
    )
    dropout: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="dropout after hidden linear layers, one mask over time; none: as published "
        "(0.25 in fc of kernel, else 0)",
    )
    delays: int = Field(
        default=0,
        ge=0,
        description="largest learned delay, in time steps, of each input of every linear layer "
        "(fc); 0: none",
    )
    delay_decay: float = Field(
        default=0.995,
        gt=0,
        le=1,
        description="what the deviation of a delay's Gaussian is multiplied by after each step, "
        "from delays / 2 down to 0.5",
    )
    delay_lr: float = Field(
        default=100.0, gt=0, description="learning rate of delays in units of optimizer.lr"
    )
    pool: Literal["max", "avg"] | None = Field(
        default=None,
        description="pooling before its spiking layer; none: max for kernel, avg for autograd",
    )
    hidden_neuron: Constants = Field(
        default=(5.0, 5.0, 0.5),
        description="time constants of membrane and synapse in time steps, and threshold, of the "
        "hidden (fc) or convolutional and pooling layers; adlif has no synapse",
    )
    output_neuron: Constants = Field(
        default=(60.0, 60.0, 10.0),
        description="the same of the output layer, and of the recurrent one of convolutional nets",
    )
    readout: Literal["first-spike", "rate"] = Field(
        default="first-spike", description="what decides and is trained: first spike, or most"
    )
    fs_alpha: float = Field(
        default=0.2, gt=0, description="logits per time step of a first spike (first-spike)"
    )
    window: float = Field(
        default=16.0,
        gt=0,
        description="T over the deviation of the Gaussian that spreads an error over time "
        "(first-spike)",
    )
    amplitude: float = Field(
        default=200.0, gt=0, description="height of that Gaussian (first-spike)"
    )
    silent_weight: float = Field(
        default=0.01, ge=0, description="lambda of the penalty for a silent label neuron"
    )
    silent_rate: float = Field(
        default=0.02, ge=0, description="beta of that penalty: lambda (exp(beta f) - 1)"
    )
    fr_alpha: float = Field(default=20.0, gt=0, description="logits per spike and time step (rate)")

    @model_validator(mode="after")
    def _fits_together(self) -> "FsNetwork":
        if self.delays and self.name != "fc":
            raise ValueError(f'delays = {self.delays} need name = "fc": convolutions have none')
        if (self.coded or 1) > self.T:
            raise ValueError(f"coded = {self.coded}: expected at most T = {self.T}")
        if self.neuron == "adlif" and self.form == "autograd":
            raise ValueError(
                'neuron = "adlif" exists in form = "kernel" only: an input acts in its own step'
            )
        learned = self.form == "autograd" or self.neuron != "culif"
        for key in ("hidden_neuron", "output_neuron"):
            constants = getattr(self, key)
            if learned and min(constants[:2]) <= 1:
                raise ValueError(
                    f"{key} = {list(constants)}: time constants must be above 1 time step"
                )
        return self
