"""A trained network with everything that turns a user's sample into an answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikeloom.analysis.decisions import first_spike_times
from spikeloom.compiler.dispatch import Backend
from spikeloom.data import registry
from spikeloom.data.for_recipe import make_transform
from spikeloom.data.loader import Draws
from spikeloom.evaluation.evaluation import CheckpointName, TrainedRun, load_run
from spikeloom.neurons import Neuron
from spikeloom.prediction.samples import as_samples
from spikeloom.run.device import autocast


@dataclass(frozen=True)
class Prediction:
    """The answer for one sample.

    `label` counts classes from 0, `name` is the class; `scores` by class, the larger the more
    likely: what the method's readout gives, and no probabilities. Of a regression there is no
    class, and `scores` are the values, by "target 0", "target 1", ... `first_spike` is the time
    step, from 1, in which the first output neuron fired; None where none did, or where the readout
    is no layer of spiking neurons. `source` is the file, or "sample 3".
    """

    label: int | None
    name: str | None
    scores: dict[str, float]
    first_spike: int | None
    source: str


class Network:
    """A trained network: `predict` takes samples, `classifier` is the module itself.

    `recipe` is what it was trained with, `spec` the shape of a sample and the classes, `device`
    where it computes, `normalisation` mean and deviation of each channel. Several threads may
    predict at once.
    """

    def __init__(self, run: TrainedRun) -> None:
        self.recipe = run.recipe
        self.spec = run.inputs.spec
        self.classifier = run.classifier
        self.device = run.device
        self.normalisation = run.inputs.mean, run.inputs.std
        data = run.recipe.data
        self._source = registry.source(data.name)
        self._transform = make_transform(data, self.spec, *self.normalisation, training=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of labels."""
        return self.spec.classes

    @property
    def _T(self) -> int | None:
        """The time steps of recordings, where the recipe says them."""
        return getattr(self.recipe.network, "T", None)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.spec.shape))
        kind = "targets" if self.spec.targets else "classes"
        return f"Network({self.recipe.title!r}, {shape} -> {self.spec.class_count} {kind})"

    def predict(self, samples: Any, *, batch_size: int = 64) -> list[Prediction]:
        """The classes of one sample or of several.

        Args:
            samples: A file (text or `Path`), a folder of files, or a Pillow image; an array or
                tensor of raw values, one sample or a batch: images `[H, W]`, `[C, H, W]` or
                `[H, W, C]`, whole numbers 0..255 or fractions 0.0..1.0, or with a batch axis in
                front; frames of events `[T, *shape]` or `[T, B, *shape]`; or a list of any of
                these. They are decoded, cut to size and normalised as in training.
            batch_size: Samples that go through the network together.

        Raises:
            DataError: a sample cannot be read, or has another shape; the text names it.
        """
        return list(self.predictions(samples, batch_size=batch_size))

    def predictions(self, samples: Any, *, batch_size: int = 64) -> Iterator[Prediction]:
        """As `predict`, one after the other: memory holds no more than a batch."""
        named = as_samples(samples, self._read, self.spec, self._T)
        while batch := list(islice(named, max(1, batch_size))):
            yield from self._answers(*zip(*batch, strict=True))

    def _read(self, content: bytes, name: str) -> Tensor:
        return self._source.sample(content, name, self.recipe.data, self._T, self.spec)

    def _answers(self, names: Sequence[str], raw: tuple[Tensor, ...]) -> Iterator[Prediction]:
        axis = 1 if self.spec.kind == "events" else 0
        batch = torch.stack(raw, axis).to(self.device)
        with torch.no_grad(), autocast(self.recipe.training.precision, self.device):
            output = self.classifier(self._transform(batch, Draws()))
        steps: list[int | None] = [None] * len(names)
        if output.spikes is not None:
            times = first_spike_times(output.spikes).amin(1).int().tolist()
            steps = [step if step <= len(output.spikes) else None for step in times]
        outputs = self.classes or [f"target {k}" for k in range(self.spec.targets)]
        for name, row, step in zip(names, output.scores.tolist(), steps, strict=True):
            scores = dict(zip(outputs, row, strict=True))
            label = row.index(max(row)) if self.classes else None
            best = None if label is None else self.classes[label]
            yield Prediction(label, best, scores, step, name)


def load(
    source: Path | str,
    checkpoint: CheckpointName = "best",
    *,
    device: str = "auto",
    backend: Backend | None = None,
) -> Network:
    """A trained network, ready to predict; its training data are not needed.

    Args:
        source: A run folder, or the `weights.safetensors` of one, wherever it was copied to; or
            `zoo/NAME`, a network that comes with the package (`spikeloom zoo`).
        checkpoint: Which checkpoint of a run folder: "best", "last" or "previous".
        device: "auto", "cpu", "cuda", or "cuda:N".
        backend: What runs the neurons; None for that of the training. "eager" starts seconds
            sooner, and is slower from some dozens of samples on.

    Raises:
        RunError, CheckpointError: there is no such run or file, or it is damaged.
    """
    run = load_run(source, checkpoint, device=device)
    network = Network(run)
    if backend is not None:
        for module in network.classifier.modules():
            if isinstance(module, Neuron):
                module.backend = backend
    return network
