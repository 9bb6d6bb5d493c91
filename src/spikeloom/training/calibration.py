"""From a trained network to the constants of another one, measured on samples: `calibrate`.

What is measured is the method's business (`Method.calibrator`); this file chooses the samples and
says in the result what they were.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from spikeloom.analysis.latency import LatencyCourse
from spikeloom.config.schema import Recipe
from spikeloom.data.base import subset
from spikeloom.data.loader import Loader
from spikeloom.errors import ConfigError, RunError
from spikeloom.evaluation.evaluation import (
    CheckpointName,
    TrainedRun,
    build,
    load_run,
)
from spikeloom.evaluation.loaders import make_transform
from spikeloom.evaluation.measure import measure, observe_latency
from spikeloom.methods import catalog
from spikeloom.run.device import autocast, surroundings
from spikeloom.seeding import generator


@dataclass(frozen=True)
class Calibration:
    """What was measured, by layer, on how many samples, and the test accuracy of the network."""

    file: Path
    values: dict[str, float]
    samples: int
    accuracy: float


def calibrate(
    folder: Path | str,
    out: Path,
    *,
    fraction: float = 0.999,
    batches: int = 5,
    batch_size: int | None = None,
    split: Literal["train", "test"] = "train",
    order: Literal["random", "file"] = "random",
    seed: int | None = None,
    checkpoint: CheckpointName = "best",
    device: str = "auto",
) -> Calibration:
    """Measure the network of a run on samples of its data set, and write the result to `out`.

    Args:
        folder: The run folder of the network to measure.
        out: The file to write; one that is there is replaced.
        fraction: The part of all values that lies below a threshold.
        batches, batch_size: How many samples; the recipe's batch size by default.
        split, order: Training samples drawn at random by default. The published DSR program takes
            the first samples of the test split: split="test", order="file".
        seed: Of the random order; the recipe's by default.
        checkpoint: Which checkpoint of the run.
        device: "auto", "cpu", "cuda", or "cuda:N".

    Raises:
        ConfigError: the method has nothing to calibrate, or the numbers do not fit.
        RunError, CheckpointError: as `load_run`; or `out` cannot be written.
    """
    run = load_run(folder, checkpoint, device=device)
    recipe = run.recipe
    loader = _samples(run, batches, batch_size or recipe.data.batch_size, split, order, seed)
    samples = len(loader.split)
    about = {
        "recipe": recipe.title,
        "data": recipe.data.name,
        "samples": f"{samples}, {split} split, in {order} order",
        "fraction": repr(fraction),
        "checkpoint": f"{checkpoint}, after {run.epochs} epochs",
    }
    method = catalog.method_of(recipe)
    with surroundings(recipe.training, run.device), autocast("float32", run.device):
        inputs = (batch.inputs for batch in loader.epoch(0))
        try:
            values = method.calibrate(run.classifier, inputs, samples, fraction, out, about)
        except OSError as error:
            raise RunError(f"cannot write {out}: {error.strerror}") from error
        accuracy = measure(
            run.classifier,
            run.test_loader(),
            spec=run.data.spec,
            device=run.device,
        ).accuracy
    return Calibration(out, values, samples, accuracy)


def accuracy_at_start(recipe: Recipe, run: TrainedRun) -> list[float]:
    """Test accuracy after 1..T time steps of the network that `recipe` would begin to train with.

    `run`: what was calibrated; its data set is used. ConfigError if the recipe's is another.
    """
    if recipe.data.name != run.data.spec.name:
        raise ConfigError(
            f"{recipe.origin} is for {recipe.data.name}, and the run for {run.data.spec.name}: "
            "name a recipe for the same data"
        )
    classifier = build(recipe, run.data.spec, run.device)
    classifier.start()
    latency = LatencyCourse()
    with surroundings(recipe.training, run.device):
        measure(
            classifier,
            run.test_loader(),
            spec=run.data.spec,
            device=run.device,
            precision=recipe.training.precision,
            observers=[observe_latency(latency)],
        )
    return latency.accuracy()


def _samples(
    run: TrainedRun,
    batches: int,
    batch_size: int,
    split: Literal["train", "test"],
    order: Literal["random", "file"],
    seed: int | None,
) -> Loader:
    source = run.data.train if split == "train" else run.data.test
    wanted = batches * batch_size
    if not 1 <= wanted <= len(source):
        raise ConfigError(
            f"{batches} batches of {batch_size} are {wanted} samples, and the {split} split of "
            f"{run.data.spec.name} has {len(source)}: give 1 to {len(source)}"
        )
    stream = generator(run.recipe.seed if seed is None else seed, "calibrate")
    drawn = torch.randperm(len(source), generator=stream)
    indices = drawn[:wanted] if order == "random" else torch.arange(wanted)
    return Loader(
        subset(source, indices),
        batch_size,
        transform=make_transform(run.recipe.data, run.data, training=False),
        device=run.device,
        workers=run.recipe.data.workers,
    )
