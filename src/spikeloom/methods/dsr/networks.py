"""The networks of the DSR paper, as `Classifier`s."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from spikeloom.data.base import DataSpec
from spikeloom.errors import ConfigError
from spikeloom.methods.base import check_maps
from spikeloom.methods.compact import CompactBody
from spikeloom.methods.dsr.config import DsrNetwork
from spikeloom.methods.dsr.representation import IMAGENET_IF_SCALE, DsrIF, DsrLIF, Represented
from spikeloom.methods.dsr.resnet import Activation, batch_norm, imagenet_resnet, small_resnet
from spikeloom.methods.dsr.thresholds import start_from_files
from spikeloom.methods.dsr.vgg import vgg
from spikeloom.methods.shared import frames, full, shown
from spikeloom.neurons import ScaledIF
from spikeloom.nn import Classifier, Output
from spikeloom.processes import distributed

_DEFAULTS = {
    "if": {"threshold": 6.0, "alpha": 0.5, "threshold_bound": 0.01},
    "lif": {"threshold": 0.3, "alpha": 0.3, "threshold_bound": 5e-4},
}


def build(network: DsrNetwork, data: DataSpec) -> "DsrClassifier":
    """The network that `network` describes, for images or event frames of `data`.

    Raises `ConfigError` if samples do not have channels, height, and width, or do not fit.
    """
    check_maps(network.name, data)
    if network.neuron == "relu" and data.kind == "events":
        raise ConfigError(
            f"neuron = relu takes images, but {data.name!r} delivers event frames: "
            "use neuron = if or lif"
        )
    return DsrClassifier(network, data)


class Compact(nn.Module):
    """The small network of `methods.compact`: `[T, B, C, H, W]`, an image at all T -> `[T, B,
    classes]`."""

    def __init__(self, network: DsrNetwork, data: DataSpec, activation: Activation) -> None:
        super().__init__()
        self.body = CompactBody(
            data, network.channels, norm=batch_norm, neuron=lambda _: activation()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x[0], len(x))


class DsrClassifier(Classifier):
    """A network whose last layer spikes, read out by its representation; cross-entropy on it.

    (In "compact" a linear layer follows, which may as well follow the representation.)

    scores = mean over T of the last layer's output (weighted for LIF), in [0, threshold] for IF and
    [0, threshold / delta_t] for LIF. votes_t is its term of step t, so that the votes of the first
    steps are, up to a factor, the scores of a shorter run.
    """

    def __init__(self, network: DsrNetwork, data: DataSpec) -> None:
        super().__init__()
        self.network = network
        self.events = data.kind == "events"
        kinds = {"vgg": vgg, "imagenet": imagenet_resnet, "compact": Compact}
        kind = next((kinds[k] for k in kinds if network.name.startswith(k)), small_resnet)
        self.body = kind(network, data, partial(make_activation, network))
        self.spiking = [module for module in self.modules() if isinstance(module, Represented)]

    course_names = ("spikes",)

    @property
    def read_by(self) -> Literal["mean"] | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The weights of LIF's mean depend on T."""
        return "mean" if self.network.neuron == "if" else None

    def course(self, current: Tensor) -> tuple[Tensor, ...]:
        return (self.body(current),)

    def read(self, *course: Tensor) -> Output:
        (spikes,) = course
        spikes = full(spikes)
        if not self.spiking:
            return Output(scores=spikes[0], votes=None)
        weights = spikes.new_tensor(self.spiking[-1].weights(len(spikes)))
        votes = spikes * weights.view(-1, 1, 1)
        return Output(scores=votes.sum(0), votes=votes)

    def current(self, inputs: Tensor) -> Tensor:
        """Images `[B, C, H, W]`, the current at each of T steps; or frames `[T, B, C, H, W]`."""
        if not self.events:
            return shown(inputs, self.network.T)
        return frames(inputs, self.network.T)

    def start(self) -> None:
        """The ANN's weights and the calibrated thresholds, where the recipe names them."""
        start_from_files(self, self.network)

    @property
    def starts_from(self) -> str | None:
        """The trained ANN."""
        return self.network.ann

    @torch.no_grad()
    def before_step(self) -> None:
        """Gradients were averaged over processes; the published sum is larger by their number."""
        if self.network.threshold_reduction == "sum":
            for neuron in self.spiking:
                if neuron.threshold.grad is not None:
                    neuron.threshold.grad.mul_(distributed.world_size())

    def after_step(self) -> None:
        """No threshold leaves its bound."""
        for neuron in self.spiking:
            neuron.apply_bound()


def make_activation(network: DsrNetwork) -> nn.Module:
    """A new layer of neurons, or a ReLU in an ANN; settings left None are the published ones."""
    if network.neuron == "relu":
        return nn.ReLU()
    setting = dict(_DEFAULTS[network.neuron])
    given = {name: getattr(network, name) for name in setting}
    setting |= {name: value for name, value in given.items() if value is not None}
    # A threshold that starts below its bound is lifted to it.
    start = max(setting["threshold"], setting["threshold_bound"])
    options = {
        "alpha": setting["alpha"],
        "bound": setting["threshold_bound"],
        "learn_threshold": network.learn_threshold,
    }
    neuron: Represented
    if network.neuron == "if":
        neuron = DsrIF(start, **options)
    else:
        neuron = DsrLIF(start, tau=network.tau, delta_t=network.delta_t, **options)
    if network.threshold_gradient == "true":
        neuron.threshold_scale = neuron.true_scale
    elif network.name.startswith("imagenet") and isinstance(neuron, ScaledIF):
        neuron.threshold_scale = IMAGENET_IF_SCALE
    return neuron
