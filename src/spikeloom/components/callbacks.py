"""What takes part in a training besides network, loss and optimizer.

A callback is asked at fixed places of the loop (`Callback`), and what it remembers is saved in
every checkpoint and put back, so that a run with callbacks is as exact as one without. Random
numbers are a function of (seed, epoch, step, rank, purpose): `seeding.stream`.

    ema               average <- d average + (1 - d) weights after each step; evaluated and kept
    early_stopping    the training ends when the best epoch is so many epochs ago
    time_curriculum   fewer time steps in the first epochs
    mixup             x <- a x + (1 - a) x', loss <- a loss(y) + (1 - a) loss(y'),  a ~ Beta(p, p)
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import Field, model_validator

from spikeloom.config.schema import CallbackConfig, Recipe
from spikeloom.config.section import Section, register
from spikeloom.errors import ConfigError
from spikeloom.seeding import stream

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from spikeloom.data.base import Batch, DataSpec
    from spikeloom.nn.classifier import Classifier


class BestSoFar(Protocol):
    """The best epoch so far, and the figure that chose it: the larger, the better."""

    @property
    def epoch(self) -> int: ...

    @property
    def value(self) -> float: ...


class Training(Protocol):
    """What a callback sees of a training; `epoch` and `step` are the step to come, from 0."""

    recipe: Recipe
    spec: "DataSpec"
    classifier: "Classifier"
    device: "torch.device"
    rank: int

    @property
    def epoch(self) -> int: ...

    @property
    def step(self) -> int: ...

    @property
    def best(self) -> "BestSoFar | None": ...


class Callback:
    """Base class: every method does nothing.

    `state` may hold tensors, numbers, text, and lists and tables of them. Weights that evaluations
    use in place of the network's are its entry "weights".
    """

    def before_epoch(self, training: Training) -> None:
        """Called before the steps of an epoch, or what is left of them."""

    def change(self, training: Training, batch: "Batch") -> "Batch":
        """The batch to train on in place of `batch`."""
        return batch

    def after_step(self, training: Training) -> None:
        """Called after the optimizer step and the method's own `after_step`."""

    def evaluating(self, training: Training) -> AbstractContextManager[None]:
        """Around every evaluation."""
        return nullcontext()

    def stops(self, training: Training) -> str | None:
        """Why the training ends before this epoch; None if it goes on."""
        return None

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from what `state()` gave."""


@register
class Ema(CallbackConfig):
    """The moving average of weights and running statistics (Polyak & Juditsky, 1992)."""

    kind: str = Field(default="ema", description="average of the weights over steps")
    decay: float = Field(default=0.999, ge=0, lt=1, description="part of the average that is kept")

    def build(self) -> Callback:
        return _Average(self.decay)


class _Average(Callback):
    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {}

    def after_step(self, training: Training) -> None:
        now = training.classifier.state_dict()
        if not self.weights:
            self.weights = {name: value.clone() for name, value in now.items()}
            return
        for name, value in now.items():
            mean = self.weights[name]
            if mean.device != value.device:  # as read from a checkpoint
                mean = self.weights[name] = mean.to(value.device)
            if value.is_floating_point():
                mean.lerp_(value, 1 - self.decay)
            else:
                mean.copy_(value)

    @contextmanager
    def evaluating(self, training: Training) -> Iterator[None]:
        if not self.weights:
            yield
            return
        now = {name: value.clone() for name, value in training.classifier.state_dict().items()}
        training.classifier.load_state_dict(self.weights)
        try:
            yield
        finally:
            training.classifier.load_state_dict(now)

    def state(self) -> dict[str, Any]:
        return {"weights": self.weights}

    def load(self, state: dict[str, Any]) -> None:
        self.weights = dict(state["weights"])


@register
class EarlyStopping(CallbackConfig):
    """Ends the training when nothing has become better for a while; under accuracy-A "better" is
    the test accuracy, so use it with accuracy-B where that matters."""

    kind: str = Field(default="early_stopping", description="end when nothing becomes better")
    patience: int = Field(default=10, ge=1, description="epochs without a better one")

    def build(self) -> Callback:
        return _Stop(self.patience)


class _Stop(Callback):
    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.value, self.epoch = -math.inf, -1

    def stops(self, training: Training) -> str | None:
        best = training.best
        if best is None:
            return None
        if best.value > self.value:  # of equal epochs a protocol may report the later
            self.value, self.epoch = best.value, best.epoch
        if training.epoch - 1 - self.epoch < self.patience:
            return None
        return f"no better epoch in the {self.patience} after epoch {self.epoch}"

    def state(self) -> dict[str, Any]:
        return {} if self.epoch < 0 else {"value": self.value, "epoch": self.epoch}

    def load(self, state: dict[str, Any]) -> None:
        if state:
            self.value, self.epoch = state["value"], state["epoch"]


@register
class TimeCurriculum(CallbackConfig):
    """Trains with fewer time steps at first; evaluations always have all."""

    kind: str = Field(default="time_curriculum", description="fewer time steps in the first epochs")
    steps: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(1,), description="time steps of each stage, before all of network.T"
    )
    epochs: int = Field(default=1, ge=1, description="epochs of a stage")

    @model_validator(mode="after")
    def _steps_rise(self) -> "TimeCurriculum":
        if any(a >= b for a, b in zip(self.steps, self.steps[1:], strict=False)):
            raise ValueError(f"steps = {list(self.steps)}: give rising numbers of time steps")
        return self

    def build(self) -> Callback:
        return _Curriculum(self)


class _Curriculum(Callback):
    def __init__(self, config: TimeCurriculum) -> None:
        self.config = config

    def before_epoch(self, training: Training) -> None:
        whole = getattr(training.recipe.network, "T", None)
        stage = training.epoch // self.config.epochs
        if whole is None or max(self.config.steps) > whole:
            raise ConfigError(
                f"callbacks.time_curriculum.steps = {list(self.config.steps)}: this network has "
                f"{'no' if whole is None else whole} time steps; give fewer"
            )
        self.now = self.config.steps[stage] if stage < len(self.config.steps) else whole
        self.whole = whole
        _set_time_steps(training.classifier, self.now)

    def change(self, training: Training, batch: "Batch") -> "Batch":
        if training.spec.kind == "static" or self.now == self.whole:
            return batch
        chosen = [i * self.whole // self.now for i in range(self.now)]  # spread over the recording
        return replace(batch, inputs=batch.inputs[chosen])

    @contextmanager
    def evaluating(self, training: Training) -> Iterator[None]:
        _set_time_steps(training.classifier, self.whole)
        yield
        _set_time_steps(training.classifier, self.now)


def _set_time_steps(classifier: "Classifier", steps: int) -> None:
    for name, module in classifier.named_modules():
        if callable(getattr(module, "interpolate_time", None)) and module.time_steps is not None:
            raise ConfigError(
                f"callbacks.time_curriculum: {name} has parameters for each time step: remove it"
            )
        if isinstance(getattr(module, "time_steps", None), int):
            module.time_steps = steps  # type: ignore[assignment]
        network = getattr(module, "network", None)
        if isinstance(network, Section) and "T" in type(network).model_fields:
            module.network = network.model_copy(update={"T": steps})  # type: ignore[assignment]


@register
class Mixup(CallbackConfig):
    """Trains on mixtures of two samples (Zhang et al., 2018), one mixing factor for each batch."""

    kind: str = Field(default="mixup", description="mixtures of two samples")
    alpha: float = Field(default=0.2, gt=0, description="p of the Beta distribution")

    def build(self) -> Callback:
        return _Mixup(self.alpha)


class _Mixup(Callback):
    def __init__(self, alpha: float) -> None:
        self.alpha = alpha

    def change(self, training: Training, batch: "Batch") -> "Batch":
        import numpy as np
        import torch

        names = (training.epoch, batch.step, training.rank, "mixup")
        draws = np.random.default_rng(stream(training.recipe.seed, *names))
        share = float(draws.beta(self.alpha, self.alpha))
        share = max(share, 1 - share)  # the accuracy of the epoch counts the larger part's label
        order = torch.from_numpy(draws.permutation(len(batch.targets))).to(batch.targets.device)
        axis = 0 if training.spec.kind == "static" else 1
        other = batch.inputs.index_select(axis, order)
        return replace(
            batch,
            inputs=torch.lerp(other, batch.inputs, share),
            other=batch.targets[order],
            share=share,
        )
