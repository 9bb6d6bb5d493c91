"""Where a training stands, and everything else that a checkpoint of it holds."""

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from spikeloom.components.callbacks import Callback
from spikeloom.config import schema
from spikeloom.errors import CheckpointError, RunError
from spikeloom.evaluation.measure import Measurement
from spikeloom.processes import distributed
from spikeloom.run.checkpoint import FORMAT, State


@dataclass(frozen=True)
class Best:
    """The result that a protocol reports so far.

    `value` is the figure that chose `epoch`, named by `metric`; accuracies are fractions.
    """

    epoch: int
    metric: str
    value: float
    test_accuracy: float

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def choose(
    protocol: schema.Protocol,
    best: Best | None,
    epoch: int,
    test: float,
    val: float | None,
    figure: str = "accuracy",
) -> Best:
    """The better of `best` and the accuracies of `epoch`."""
    value = test if val is None else val
    if best is not None and not protocol.better(value, best.value):
        return best
    return Best(epoch, f"{protocol.metric} {figure}", value, test)


@dataclass
class Position:
    """`epoch` and `step` are the next optimizer step to do; `global_step` counts those done.

    `best`, and `confusion` of its test samples, are of the best epoch so far. Seconds are those
    spent training, of this epoch and of the run, and those of all its threads. `idle`: parameters
    without a gradient in the last step of the epoch; `loss`: of the epoch before.
    """

    epoch: int = 0
    step: int = 0
    global_step: int = 0
    epoch_seconds: float = 0.0
    run_seconds: float = 0.0
    cpu_seconds: float = 0.0
    best: Best | None = None
    confusion: Tensor | None = None
    idle: list[str] = field(default_factory=list)
    loss: float | None = None

    def judge(self, protocol: schema.Protocol, test: Measurement, val: Measurement | None) -> bool:
        """Whether this epoch is the best so far by `protocol`; it is taken for that then."""
        value = None if val is None else val.accuracy
        figure = "r2" if test.errors else "accuracy"
        best = choose(protocol, self.best, self.epoch, test.accuracy, value, figure)
        if best is self.best:
            return False
        self.best, self.confusion = best, test.confusion
        return True

    def next_epoch(self, loss: float) -> None:
        """To the beginning of the next epoch; `loss`: that of this one."""
        self.loss = loss
        self.epoch, self.step, self.epoch_seconds = self.epoch + 1, 0, 0.0


class Clock:
    """Counts the time spent training into a position."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._at, self._worked = time.monotonic(), sum(os.times()[:4])

    def stop(self, position: Position) -> None:
        """Adds the time since the clock was started or last stopped."""
        now, worked = time.monotonic(), sum(os.times()[:4])  # of this process and its children
        position.epoch_seconds += now - self._at
        position.run_seconds += now - self._at
        position.cpu_seconds += worked - self._worked
        self._at, self._worked = now, worked


@dataclass(frozen=True)
class RunResult:
    """What a finished run reports: `best.test_accuracy` is its accuracy under `protocol`."""

    folder: Path
    protocol: str
    best: Best
    epochs: int
    seconds: float


class Stateful(Protocol):
    """What keeps its state in a dictionary, as PyTorch's objects do."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


class TrainedParts(NamedTuple):
    """What changes while it trains, besides the position."""

    model: nn.Module
    optimizer: Stateful
    scaler: Stateful
    callbacks: Mapping[str, Callback]


def take(
    recipe: str,
    position: Position,
    parts: TrainedParts,
    sums: dict[str, Tensor],
    metrics_bytes: int,
) -> State:
    """The state at `position` of the run of `recipe` (TOML text).

    `sums` are those of the epoch, of all processes (`Score.state`); `metrics_bytes` is the length
    of its record.
    """
    best = position.best
    gradients = {name: value.grad for name, value in parts.model.named_parameters()}
    state: dict[str, Any] = {
        "format": FORMAT,
        "recipe": recipe,
        "processes": distributed.world_size(),
        "model": parts.model.state_dict(),
        "optimizer": parts.optimizer.state_dict(),
        "scaler": parts.scaler.state_dict(),
        # What the last step leaves to the next; none where steps start anew.
        "gradients": {name: g.clone() for name, g in gradients.items() if g is not None},
        "sums": sums,
        **vars(position),
        "best": None if best is None else best.to_dict(),
        "metrics_bytes": metrics_bytes,
        "callbacks": {name: callback.state() for name, callback in parts.callbacks.items()},
    }
    return cast(State, state)


def put_back(path: Path, state: State, parts: TrainedParts) -> Position:
    """Makes `parts` stand where `state`, read from `path`, was taken; its position.

    Raises:
        CheckpointError: it is of another network or optimizer.
        RunError: it is of another number of processes, in the middle of an epoch.
    """
    there, here = state["processes"], distributed.world_size()
    if there != here and state["step"]:
        raise RunError(
            f"{path} was written inside an epoch that {there} processes share, and "
            f"{here} {'is' if here == 1 else 'are'} here: start {there}; the number can change "
            "between two epochs"
        )
    try:
        parts.model.load_state_dict(state["model"])
        usual = parts.optimizer.state_dict()["param_groups"]
        parts.optimizer.load_state_dict(state["optimizer"])
        _check_kind(parts.optimizer.state_dict()["param_groups"], usual)
        for parameter, kept in getattr(parts.optimizer, "state", {}).items():
            for value in kept.values():
                if isinstance(value, torch.Tensor) and value.dim():
                    value.expand_as(parameter)
        parts.scaler.load_state_dict(state["scaler"])
        for name, parameter in parts.model.named_parameters():
            if name in state["gradients"]:
                parameter.grad = state["gradients"][name].to(parameter)
        for name, callback in parts.callbacks.items():
            if name in state["callbacks"]:
                callback.load(state["callbacks"][name])
        best = None if state["best"] is None else Best(**state["best"])
        if best is not None:
            _check_kind([best.epoch, best.value, best.test_accuracy, best.metric], [0, 0, 0, ""])
        values: dict[str, Any] = {name: state[name] for name in Position.__dataclass_fields__}
        values["best"] = best
        return Position(**values)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} does not fit the network and optimizer of recipe.toml: "
            "restore the recipe that this run began with, or train again"
        ) from error


def _check_kind(saved: object, usual: object) -> None:
    """Raises TypeError where `saved` is not built of the same kinds of values as `usual`."""
    kinds = {type(saved), type(usual)}
    if len(kinds) > 1 and kinds != {int, float}:
        raise TypeError(f"{saved} in place of {usual}")
    if isinstance(saved, dict) and isinstance(usual, dict):
        saved, usual = [saved[key] for key in usual], list(usual.values())
    if isinstance(saved, list | tuple) and isinstance(usual, list | tuple):
        for value, other in zip(saved, usual, strict=True):
            _check_kind(value, other)
