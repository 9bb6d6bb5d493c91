"""Learning rates over epochs.

Each is a closed form of the epoch e = 0, 1, ... (with `each_step` its part too) and of nothing
else, so that it needs no state and a run can go on anywhere.
"""

import math
from typing import Annotated, Self

from pydantic import Field, model_validator

from spikeloom.config.schema import Schedule
from spikeloom.config.section import register


@register
class Constant(Schedule):
    """lr"""

    name: str = Field(default="constant", description="shape of the learning rate over epochs")

    def shape(self, lr: float, epoch: float) -> float:
        return lr


class _Long(Schedule):
    """The base of what has a length of its own."""

    T_max: int = Field(default=64, ge=1, description="epochs from the highest to the lowest rate")

    def stretched(self, factor: float) -> Self:
        return self.model_copy(update={"T_max": max(1, round(self.T_max * factor))})


@register
class Cosine(_Long):
    """eta_min + (lr - eta_min) (1 + cos(pi e / T_max)) / 2; a wave, it rises again."""

    name: str = Field(default="cosine", description="shape of the learning rate over epochs")
    eta_min: float = Field(default=0.0, ge=0, description="lowest learning rate")

    def shape(self, lr: float, epoch: float) -> float:
        wave = (1 + math.cos(math.pi * epoch / self.T_max)) / 2
        return self.eta_min + (lr - self.eta_min) * wave


@register
class CosineRestarts(Cosine):
    """As cosine with e modulo T_max: it jumps back to lr."""

    name: str = Field(
        default="cosine_restarts", description="shape of the learning rate over epochs"
    )

    def shape(self, lr: float, epoch: float) -> float:
        return super().shape(lr, epoch % self.T_max)


@register
class Linear(_Long):
    """lr max(0, 1 - e / T_max); with a warm-up, a triangle."""

    name: str = Field(default="linear", description="shape of the learning rate over epochs")

    def shape(self, lr: float, epoch: float) -> float:
        return lr * max(0.0, 1 - epoch / self.T_max)


@register
class Multistep(Schedule):
    """lr gamma^(number of milestones not above e)"""

    name: str = Field(default="multistep", description="shape of the learning rate over epochs")
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="epochs at which the rate is multiplied by gamma"
    )
    gamma: float = Field(default=0.1, gt=0, le=1, description="factor at a milestone")

    @model_validator(mode="after")
    def _milestones_rise(self) -> "Multistep":
        if not self.milestones:
            raise ValueError('name = "multistep" needs milestones, for example [100, 150]')
        if any(a >= b for a, b in zip(self.milestones, self.milestones[1:], strict=False)):
            raise ValueError(
                f"milestones = {list(self.milestones)}: give different epochs in rising order"
            )
        return self

    def shape(self, lr: float, epoch: float) -> float:
        return lr * self.gamma ** sum(milestone <= epoch for milestone in self.milestones)

    def stretched(self, factor: float) -> Self:
        epochs = sorted({max(1, round(milestone * factor)) for milestone in self.milestones})
        return self.model_copy(update={"milestones": tuple(epochs)})
