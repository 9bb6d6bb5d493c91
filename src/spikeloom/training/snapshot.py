"""Everything about a run at one instant: taken for a checkpoint, and put back."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spikeloom.errors import CheckpointError, RunError
from spikeloom.evaluation.protocol import Best
from spikeloom.methods import catalog
from spikeloom.processes import distributed
from spikeloom.run.checkpoint import FORMAT, State

if TYPE_CHECKING:
    from spikeloom.training.trainer import Trainer


def take(trainer: "Trainer", sums: dict[str, Tensor]) -> State:
    """The state of `trainer`; `sums` are those of the epoch, of all processes (`Score.state`)."""
    return {
        "format": FORMAT,
        "recipe": catalog.dump(trainer.recipe),
        "processes": distributed.world_size(),
        "epoch": trainer.epoch,
        "step": trainer.step,
        "global_step": trainer.global_step,
        "model": trainer.classifier.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "gradients": _carried_gradients(trainer),
        "sums": sums,
        "epoch_seconds": trainer.epoch_seconds,
        "run_seconds": trainer.run_seconds,
        "best": None if trainer.best is None else trainer.best.to_dict(),
        "confusion": trainer.confusion,
        "metrics_bytes": trainer.run.metrics.stat().st_size,
    }


def put_back(trainer: "Trainer", path: Path, state: State) -> None:
    """Makes `trainer` stand where `state`, read from `path`, was taken.

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
        trainer.classifier.load_state_dict(state["model"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.scaler.load_state_dict(state["scaler"])
        for name, parameter in trainer.classifier.named_parameters():
            if name in state["gradients"]:
                parameter.grad = state["gradients"][name].to(parameter)
        trainer.score.load(state["sums"])
        trainer.epoch, trainer.step = state["epoch"], state["step"]
        trainer.global_step = state["global_step"]
        trainer.epoch_seconds, trainer.run_seconds = state["epoch_seconds"], state["run_seconds"]
        trainer.best = None if state["best"] is None else Best(**state["best"])
        trainer.confusion = state["confusion"]
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} does not fit the network and optimizer of recipe.toml: "
            "restore the recipe that this run began with, or train again"
        ) from error


def _carried_gradients(trainer: "Trainer") -> dict[str, Tensor]:
    """What the last step leaves to the next, by parameter; empty where steps start anew."""
    found = {name: value.grad for name, value in trainer.classifier.named_parameters()}
    return {name: grad.clone() for name, grad in found.items() if grad is not None}
