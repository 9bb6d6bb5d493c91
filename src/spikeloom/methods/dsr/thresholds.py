"""From a trained ANN to the thresholds of a spiking network, and their files.

The ANN is run on sample batches. For each ReLU, all values that enter it, rectified, are ranked
over images, channels, and positions; the threshold is the element number int(q n) of n in rising
order, q = 0.999 as published (the paper's text says maximum: q = 1). A rate lies between 0 and
threshold, so that nearly no activation is cut off:

    IF    threshold = activation
    LIF   threshold = activation delta_t         (the output of a LIF is threshold / delta_t)

A threshold file is safetensors: one float64 scalar per layer, `relu1`, `layer1.0.relu2`, ..., the
activation before it is scaled, and in the metadata what it was measured on.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from spikeloom import files
from spikeloom.data.files import weights
from spikeloom.errors import CheckpointError, ConfigError
from spikeloom.hooks import hooked
from spikeloom.methods.dsr.config import DsrNetwork
from spikeloom.methods.dsr.importing import BODY, published, read_thresholds
from spikeloom.methods.dsr.representation import DsrLIF, Represented
from spikeloom.methods.published import fit
from spikeloom.nn import Classifier


class _Largest:
    """The element number int(q n) in rising order of n numbers that come in parts.

    Only the largest n - int(q n) of them are kept: one in a thousand for q = 0.999. (The published
    code keeps a pool of at most 10^7 and draws a random half of it once it is full, which favours
    the batches that come last.)
    """

    def __init__(self, fraction: float, samples: int) -> None:
        self.fraction, self.samples = fraction, samples
        self.pool: Tensor | None = None
        self.keep = self.counted = 0

    def add(self, values: Tensor, samples: int) -> None:
        """`values` of so many samples, in any order."""
        n = values.numel() // samples * self.samples
        # int(q n) can be n itself for q = 1, or by rounding: then it is the maximum.
        self.keep = max(1, n - int(self.fraction * n))
        self.counted += samples
        flat = values.flatten() if self.pool is None else torch.cat([self.pool, values.flatten()])
        self.pool = flat.topk(self.keep).values if flat.numel() > self.keep else flat

    def value(self) -> Tensor:
        assert self.pool is not None and self.counted == self.samples
        return self.pool.min().double().cpu()


@torch.no_grad()
def calibrate(
    classifier: Classifier, batches: Iterable[Tensor], samples: int, fraction: float
) -> dict[str, Tensor]:
    """The activation below which `fraction` of each ReLU's values lie, by layer.

    `batches`: images `[B, C, H, W]`, `samples` of them altogether. The classifier is run in
    evaluation mode. ConfigError if it has spiking neurons.
    """
    layers = {
        name.removeprefix(BODY): module
        for name, module in classifier.named_modules()
        if isinstance(module, nn.ReLU)
    }
    if not layers:
        raise ConfigError(
            "the network has no ReLU: thresholds are calibrated on an ANN; give the run of a "
            "recipe with neuron = relu"
        )
    if not 0 < fraction <= 1:
        raise ConfigError(f"fraction = {fraction}: expected above 0, up to 1 for the maximum")
    largest = {name: _Largest(fraction, samples) for name in layers}
    training = classifier.training
    classifier.eval()
    try:
        for inputs in batches:
            count = len(inputs)
            looks = {m: partial(_collect, largest[name], count) for name, m in layers.items()}
            with hooked(looks):
                classifier(inputs)
    finally:
        classifier.train(training)
    return {name: top.value() for name, top in largest.items()}


def _collect(largest: _Largest, samples: int, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Of a batch; a ReLU sees `[1, B, ...]`, or `[B, ...]` in a Sequential."""
    largest.add(inputs[0].relu(), samples)


def write_thresholds(path: Path, activations: dict[str, Tensor], about: dict[str, str]) -> None:
    """A threshold file at `path`; `about` says what the numbers were measured on."""
    with files.replacing(path) as temporary:
        safetensors.torch.save_file(activations, temporary, metadata=about)


def start_from_files(classifier: Classifier, network: DsrNetwork) -> None:
    """Load `network.ann` and `network.thresholds` into the classifier, where they are given.

    CheckpointError names a file that is missing, damaged, or of another network; nothing is skipped
    silently.
    """
    if network.ann is not None:
        path = Path(network.ann)
        if path.is_dir():
            path = path / "weights.safetensors"
        state = weights.read(path)[0] if _is_safetensors(path) else published(path)
        ours = classifier.state_dict()
        classifier.load_state_dict(fit(path, state, ours, optional=(".threshold",)))
    if network.thresholds is not None:
        set_thresholds(classifier, Path(network.thresholds))


@torch.no_grad()
def set_thresholds(classifier: Classifier, path: Path) -> None:
    """The calibrated thresholds of the file at `path`, ours or the published program's."""
    activations = weights.read(path)[0] if _is_safetensors(path) else read_thresholds(path)
    neurons = {
        name.removeprefix(BODY): module
        for name, module in classifier.named_modules()
        if isinstance(module, Represented)
    }
    if activations.keys() != neurons.keys():
        odd = sorted(activations.keys() ^ neurons.keys())
        raise CheckpointError(
            f"{path} has thresholds of {len(activations)} layers, this network {len(neurons)}; not "
            f"in both: {', '.join(odd[:3])}; calibrate the ANN that has this network's layers"
        )
    for name, neuron in neurons.items():
        scale = neuron.delta_t if isinstance(neuron, DsrLIF) else 1.0
        neuron.threshold.fill_(float(activations[name]) * scale)
        neuron.apply_bound()


def facts_of(path: Path) -> dict[str, str]:
    """What `write_thresholds` was told of the file at `path`; nothing of a published one."""
    return weights.read(path)[1] if _is_safetensors(path) else {}


def _is_safetensors(path: Path) -> bool:
    return path.suffix == ".safetensors"
