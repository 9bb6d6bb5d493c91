"""How good a trained network is: accuracy, confusion, latency, firing rates, operations.

`measure` (in `measure.py`) is what the trainer calls after an epoch; `evaluate` is everything there
is to say about a run that is on the disk.
"""

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from spikeloom import zoo
from spikeloom.analysis.decisions import DecisionCounter, Decisions, LatencyCourse
from spikeloom.analysis.operations import Operations, SynapticOperations
from spikeloom.config.schema import Recipe
from spikeloom.data.base import Batch, DataSet, DataSpec
from spikeloom.data.files import weights as weight_files
from spikeloom.data.for_recipe import load_data, make_loaders
from spikeloom.data.loader import Loader
from spikeloom.errors import CheckpointError, ConfigError, DataError
from spikeloom.evaluation.measure import (
    Measurement,
    Observer,
    measure,
    observe_decisions,
    observe_latency,
)
from spikeloom.methods import catalog
from spikeloom.nn.classifier import Classifier, Output
from spikeloom.run import checkpoint as checkpoints
from spikeloom.run.device import choose_device, surroundings
from spikeloom.run.failures import explained
from spikeloom.run.folder import RunFolder
from spikeloom.run.inputs import Inputs, read_inputs

CheckpointName = Literal["best", "last", "previous"]


@dataclass(frozen=True, kw_only=True)
class Evaluation(Measurement):
    """What `evaluate` found out about a run on its test samples.

    `accuracy_per_timestep`: accuracy if the network were stopped after 1..T steps; empty for a
    method whose readout has no votes per step. `mirrored_accuracy`: with the scores of image and
    mirror image added, where that was asked for. `operations`: per sample, with
    `operations.assumptions`. `decisions`: by first spike and by rate, where the output layer is one
    of spiking neurons.
    """

    checkpoint: CheckpointName
    epochs: int | None
    accuracy_per_timestep: list[float]
    operations: Operations
    decisions: Decisions | None
    classes: tuple[str, ...] = ()
    mirrored_accuracy: float | None = None

    @property
    def accuracy_by_class(self) -> list[float]:
        """Of the samples of each class, the part that is right; NaN for a class without samples."""
        right, all_of = self.confusion.diagonal().double(), self.confusion.sum(1)
        return (right / all_of).tolist()

    @property
    def spikes_per_neuron(self) -> float:
        """Spikes of all layers per sample over all their neurons."""
        return sum(self.spikes.values()) / max(sum(self.neurons.values()), 1)


@dataclass(frozen=True)
class TrainedRun:
    """A run in memory: `classifier` in evaluation mode after `epochs` epochs (None: of a file of
    weights, which does not say)."""

    recipe: Recipe
    inputs: Inputs
    classifier: Classifier
    device: torch.device
    epochs: int | None

    @functools.cached_property
    def data(self) -> DataSet:
        """The run's data set, read when it is first asked for; then the classifier's loss is that
        of the recipe, which may weigh classes by their labels.

        Raises `DataError` if it is not here, or has other samples than the run was trained on.
        """
        data = load_data(self.recipe)
        if data.spec != self.inputs.spec:
            raise DataError(
                f"the data at hand are {_summary(data.spec)}, and the run was trained on "
                f"{_summary(self.inputs.spec)}: give the data of this run (--root)"
            )
        labels = data.train.labels
        self.classifier.loss = self.recipe.loss.build(self.classifier, labels)  # type: ignore[method-assign]
        return data

    def test_loader(self) -> Loader:
        """The test samples in their order, transformed as in training's evaluations."""
        return make_loaders(self.recipe, self.data, self.device).test

    def measure(self, classifier: Classifier, precision: str, *observers: Observer) -> Measurement:
        """`classifier`, that of this run or another one, on the test samples."""
        with surroundings(self.recipe.training, self.device):
            return measure(
                classifier,
                self.test_loader(),
                spec=self.data.spec,
                device=self.device,
                precision=precision,
                observers=observers,
            )


def load_run(
    folder: Path | str,
    checkpoint: CheckpointName = "best",
    *,
    timesteps: int | None = None,
    interpolate: bool = False,
    device: str = "auto",
    root: Path | str | None = None,
) -> TrainedRun:
    """The network of a run folder with the weights of a checkpoint, or of a file of weights.

    Args:
        folder: A run folder, the `weights.safetensors` of one, or `zoo/NAME`.
        checkpoint: Which checkpoint of a run folder.
        timesteps: Time steps to run, in place of the recipe's `network.T`.
        interpolate: Where neurons have parameters of their own for each time step, make those for
            `timesteps` by interpolation (GLIF's conductances).
        device: "auto", "cpu", "cuda", or "cuda:N".
        root: Where its data are on this machine, if not where the recipe says. They are read when
            `TrainedRun.data` is asked for; the network needs none.

    Raises:
        RunError: `folder` is no run folder.
        CheckpointError: it has no such checkpoint, or a damaged one.
        ConfigError: the network cannot run for `timesteps`.
    """
    path = zoo.located(folder)
    if path.suffix == ".safetensors":
        trained, inputs, weights = _weights_file(path)
        trained, epochs = on_this_machine(trained, root), None
    else:
        run = RunFolder.open(path)
        trained = on_this_machine(catalog.parse(run.recipe.read_text(), str(run.recipe)), root)
        path = run.checkpoints / f"{checkpoint}.pt"
        if not path.exists():
            there = ", ".join(sorted(file.stem for file in run.checkpoints.glob("*.pt"))) or "none"
            raise CheckpointError(
                f"{run.path} has no checkpoint {checkpoint!r} (there is {there}): "
                "train on, or name one that exists"
            )
        state = checkpoints.read(path)
        inputs = read_inputs(run.inputs) or Inputs.of(load_data(trained))
        weights = checkpoints.evaluated_weights(state["model"], state["callbacks"])
        epochs = state["epoch"]
    recipe = trained if timesteps is None else _with_timesteps(trained, timesteps)
    place = choose_device(device)
    classifier = catalog.build(recipe, inputs.spec, place)
    if timesteps is not None and interpolate:
        weights = _at_time_steps(catalog.build(trained, inputs.spec, place), weights, timesteps)
    try:
        classifier.load_state_dict(weights)
    except RuntimeError as error:
        if timesteps is None:
            raise CheckpointError(f"{path} does not fit the network of its recipe") from error
        raise ConfigError(
            f"timesteps = {timesteps}: this network has parameters for each of its time steps; "
            "let them be interpolated (eval --interpolate), or evaluate it without timesteps"
        ) from error
    classifier.eval()
    return TrainedRun(recipe, inputs, classifier, place, epochs)


def recipe_of(source: Path | str) -> Recipe:
    """The recipe of a run folder, of a file of weights, or of `zoo/NAME`."""
    path = zoo.located(source)
    if path.suffix == ".safetensors":
        return _weights_file(path)[0]
    run = RunFolder.open(path)
    return catalog.parse(run.recipe.read_text(), str(run.recipe))


def _weights_file(path: Path) -> tuple[Recipe, Inputs, dict[str, Tensor]]:
    """What a `weights.safetensors` holds, of any precision."""
    weights, about = weight_files.read(path)
    if not {"recipe", "inputs"} <= about.keys():
        raise CheckpointError(
            f"{path}: holds weights alone, without recipe and inputs: give the run folder they are "
            "from"
        )
    checkpoints.check_finite(weights)
    recipe = catalog.parse(about["recipe"], str(path))
    return recipe, Inputs.from_json(about["inputs"], path), weights


def on_this_machine(recipe: Recipe, root: Path | str | None = None) -> Recipe:
    """`recipe` with its data at `root`; without, a root of another machine gives way to this one's.

    `data.root` is where the data were when the run began. Where that does not exist, they are
    looked for as if none were named: see `spikeloom.machine`.
    """
    given = recipe.data.root
    if root is None and (given is None or Path(given).expanduser().exists()):
        return recipe
    place = None if root is None else str(root)
    data = recipe.data.model_copy(update={"root": place})
    return recipe.model_copy(update={"data": data})


def _summary(spec: DataSpec) -> str:
    shape = "x".join(map(str, spec.shape))
    return f"{spec.name}, {shape}, {len(spec.classes)} classes"


def _at_time_steps(
    classifier: Classifier, weights: dict[str, Tensor], timesteps: int
) -> dict[str, Tensor]:
    """`weights` of `classifier`, those of neurons that are per time step interpolated."""
    classifier.load_state_dict(weights)
    for module in classifier.modules():
        if hasattr(module, "interpolate_time") and module.time_steps is not None:
            module.interpolate_time(timesteps)  # type: ignore[operator]
    return classifier.state_dict()


def evaluate(
    folder: Path | str,
    checkpoint: CheckpointName = "best",
    *,
    noise: float = 0.0,
    timesteps: int | None = None,
    interpolate: bool = False,
    mirrored: bool = False,
    device: str = "auto",
    root: Path | str | None = None,
) -> Evaluation:
    """Measures a run on the test samples of its data set.

    Args:
        folder: A run folder, the `weights.safetensors` of one, or `zoo/NAME`.
        checkpoint: Which of its checkpoints.
        noise: Standard deviation of Gaussian noise that is added to the inputs after they were
            normalised; the same noise each time, from the recipe's seed.
        timesteps: Time steps to run, in place of the recipe's `network.T`.
        interpolate: As in `load_run`.
        mirrored: Also classify the mirror images, in a second pass, for `mirrored_accuracy`.
        device: "auto", "cpu", "cuda", or "cuda:N".
        root: As in `load_run`.

    Raises:
        RunError, CheckpointError, ConfigError: as `load_run`; samples that have no mirror image.
        NonFiniteError: the loss is NaN or infinite.
    """
    if not (math.isfinite(noise) and noise >= 0):
        raise ConfigError(f"noise = {noise}: give a standard deviation, 0 or more")
    run = load_run(
        folder, checkpoint, timesteps=timesteps, interpolate=interpolate, device=device, root=root
    )
    if mirrored and (len(run.inputs.spec.shape) != 3 or run.inputs.spec.targets):
        raise ConfigError(f"{run.inputs.spec.name} has no pictures of classes: nothing to mirror")
    latency, operations = LatencyCourse(), SynapticOperations(run.classifier)
    decisions = DecisionCounter()
    loader, scores, right = run.test_loader(), list[Tensor](), 0

    def add_mirror_image(output: Output, batch: Batch) -> None:
        nonlocal right
        both = output.scores + scores[batch.step]
        right += int((both.argmax(1) == batch.targets).sum())

    with explained(run.recipe, run.device), surroundings(run.recipe.training, run.device):
        pass_over = functools.partial(
            measure,
            run.classifier,
            loader,
            spec=run.data.spec,
            device=run.device,
            precision=run.recipe.training.precision,
            noise=noise,
            noise_seed=run.recipe.seed,
        )
        looking = [observe_latency(latency), observe_decisions(decisions)]
        if mirrored:
            looking.append(lambda output, _: scores.append(output.scores))
        with operations:
            measurement = pass_over(with_rates=True, observers=looking)
        if mirrored:
            turned = loader.transform
            assert turned is not None
            loader.transform = lambda inputs, draws: turned(inputs, draws).flip(-1)
            pass_over(observers=[add_mirror_image])
    return Evaluation(
        **vars(measurement),
        checkpoint=checkpoint,
        epochs=run.epochs,
        accuracy_per_timestep=latency.accuracy(),
        operations=operations.per_sample(),
        decisions=decisions.result(),
        classes=run.inputs.spec.classes,
        mirrored_accuracy=right / measurement.samples if mirrored else None,
    )


def accuracy_at_start(recipe: Recipe, run: TrainedRun) -> list[float]:
    """Test accuracy after 1..T time steps of the network that `recipe` would begin to train with.

    `run`: whose data set is used. ConfigError if the recipe's is another.
    """
    if recipe.data.name != run.data.spec.name:
        raise ConfigError(
            f"{recipe.origin} is for {recipe.data.name}, and the run for {run.data.spec.name}: "
            "name a recipe for the same data"
        )
    classifier, latency = catalog.build(recipe, run.data.spec, run.device), LatencyCourse()
    classifier.start()
    run.measure(classifier, recipe.training.precision, observe_latency(latency))
    return latency.accuracy()


def _with_timesteps(recipe: Recipe, timesteps: int) -> Recipe:
    network = recipe.network
    if "T" not in type(network).model_fields:
        raise ConfigError(f"timesteps = {timesteps}: {recipe.method} networks have no key T")
    if timesteps < 1:
        raise ConfigError(f"timesteps = {timesteps}: give 1 or more")
    return recipe.model_copy(update={"network": network.model_copy(update={"T": timesteps})})
