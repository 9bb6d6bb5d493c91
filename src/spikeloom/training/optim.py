"""Optimizers and learning rates as a recipe names them.

The learning rate is a closed form of the epoch e = 0, 1, ... and of nothing else, so that it needs
no state and a run can go on anywhere:

    constant         lr
    cosine           eta_min + (lr - eta_min) (1 + cos(pi e / T_max)) / 2     (a wave: rises again)
    cosine_restarts  the same with e mod T_max in place of e
    multistep        lr gamma^(number of milestones <= e)

and, in the first `warmup_epochs` epochs, any of these times (e + 1) / warmup_epochs; or, in the
first `warmup_steps` optimizer steps i = 0, 1, ..., times (i + 1) / warmup_steps.
"""

import math
from collections.abc import Iterable

import torch

from spikeloom.config.schema import OptimizerConfig, ScheduleConfig


def make_optimizer(
    config: OptimizerConfig, groups: Iterable[dict[str, object]]
) -> torch.optim.Optimizer:
    """The optimizer of `config` over parameter groups; keys in a group override the recipe's.

    `lr_scale` in a group gives it that multiple of the recipe's learning rate. Each group remembers
    its own initial learning rate under `initial_lr`.
    """
    groups = [_with_rate(group, config.lr) for group in groups]
    for group in groups:
        group.setdefault("initial_lr", group["lr"])
    # One kernel over all parameters: on a CPU half the time of the default (measured on 13 million
    # weights: 0.06 s against 0.12 s a step).
    match config.name:
        case "sgd":
            return torch.optim.SGD(
                groups,
                lr=config.lr,
                momentum=config.momentum,
                nesterov=config.nesterov,
                weight_decay=config.weight_decay,
                fused=True,
            )
        case "adam" | "adamw":
            kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
            return kind(
                groups,
                lr=config.lr,
                betas=config.betas,
                eps=config.eps,
                weight_decay=config.weight_decay,
                amsgrad=config.amsgrad,
                fused=True,
            )


def _with_rate(group: dict[str, object], lr: float) -> dict[str, object]:
    scale = group.get("lr_scale", 1.0)
    assert isinstance(scale, float)
    others = {key: value for key, value in group.items() if key != "lr_scale"}
    return {"lr": lr * scale, **others}


def learning_rate(config: ScheduleConfig, lr: float, epoch: int, step: int | None = None) -> float:
    """The learning rate of `epoch` for a group whose initial rate is `lr`.

    `step` counts the optimizer steps since the start of training; None is after the warm-up.
    """
    over = epoch > 0 and config.warmup_first_epoch_only
    if step is not None and step < config.warmup_steps and not over:
        return _shape(config, lr, epoch) * (step + 1) / config.warmup_steps
    if epoch < config.warmup_epochs:
        return _shape(config, lr, epoch) * (epoch + 1) / config.warmup_epochs
    return _shape(config, lr, epoch)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, config: ScheduleConfig, epoch: int, step: int | None = None
) -> float:
    """Gives every group its rate of `epoch` and `step`; returns that of the first group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, group["initial_lr"], epoch, step)
    return optimizer.param_groups[0]["lr"]


def _shape(config: ScheduleConfig, lr: float, epoch: int) -> float:
    match config.name:
        case "constant":
            return lr
        case "multistep":
            return lr * config.gamma ** sum(milestone <= epoch for milestone in config.milestones)
        case "cosine":
            return _cosine(config, lr, epoch)
        case "cosine_restarts":
            return _cosine(config, lr, epoch % config.T_max)


def _cosine(config: ScheduleConfig, lr: float, epoch: int) -> float:
    wave = (1 + math.cos(math.pi * epoch / config.T_max)) / 2
    return config.eta_min + (lr - config.eta_min) * wave
