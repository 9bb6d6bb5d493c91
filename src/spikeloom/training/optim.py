"""A recipe's optimizer and learning rate, over the parameter groups of a method."""

from collections.abc import Iterable

import torch

from spikeloom.config.schema import Optimizer, Schedule


def make_optimizer(config: Optimizer, groups: Iterable[dict[str, object]]) -> torch.optim.Optimizer:
    """The optimizer of `config` over parameter groups; keys in a group override the recipe's.

    `lr_scale` in a group gives it that multiple of the recipe's learning rate. Each group remembers
    its own initial learning rate under `initial_lr`.
    """
    groups = [_with_rate(group, config.lr) for group in groups]
    for group in groups:
        group.setdefault("initial_lr", group["lr"])
    return config.build(groups)


def _with_rate(group: dict[str, object], lr: float) -> dict[str, object]:
    scale = group.get("lr_scale", 1.0)
    assert isinstance(scale, float)
    others = {key: value for key, value in group.items() if key != "lr_scale"}
    return {"lr": lr * scale, **others}


def set_learning_rate(
    optimizer: torch.optim.Optimizer, schedule: Schedule, epoch: int, step: int | None = None
) -> float:
    """Gives every group its rate of `epoch` and `step`; returns that of the first group."""
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate(group["initial_lr"], epoch, step)
    return optimizer.param_groups[0]["lr"]
