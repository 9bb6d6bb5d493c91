"""Learning rates over epochs.

Each is a closed form of the epoch e = 0, 1, ... and of nothing else, so that it needs no state and
a run can go on anywhere.
"""

import math
from typing import Annotated

from pydantic import Field, model_validator

from spikeloom.config.schema import Schedule
from spikeloom.config.section import register


@register
class Constant(Schedule):
    """lr"""

    name: str = Field(default="constant", description="shape of the learning rate over epochs")

    def shape(self, lr: float, epoch: int) -> float:
        return lr


@register
class Cosine(Schedule):
    """eta_min + (lr - eta_min) (1 + cos(pi e / T_max)) / 2; a wave, it rises again."""

    name: str = Field(default="cosine", description="shape of the learning rate over epochs")
    T_max: int = Field(default=64, ge=1, description="epochs from the highest to the lowest rate")
    eta_min: float = Field(default=0.0, ge=0, description="lowest learning rate")

    def shape(self, lr: float, epoch: int) -> float:
        return _cosine(lr, self.eta_min, epoch, self.T_max)

    def stretched(self, factor: float) -> "Cosine":
        return self.model_copy(update={"T_max": max(1, round(self.T_max * factor))})


@register
class CosineRestarts(Schedule):
    """As cosine with e modulo T_max: it jumps back to lr."""

    name: str = Field(
        default="cosine_restarts", description="shape of the learning rate over epochs"
    )
    T_max: int = Field(default=64, ge=1, description="epochs from the highest to the lowest rate")
    eta_min: float = Field(default=0.0, ge=0, description="lowest learning rate")

    def shape(self, lr: float, epoch: int) -> float:
        return _cosine(lr, self.eta_min, epoch % self.T_max, self.T_max)

    def stretched(self, factor: float) -> "CosineRestarts":
        return self.model_copy(update={"T_max": max(1, round(self.T_max * factor))})


@register
class Linear(Schedule):
    """lr max(0, 1 - e / T_max); with a warm-up, a triangle."""

    name: str = Field(default="linear", description="shape of the learning rate over epochs")
    T_max: int = Field(default=64, ge=1, description="epochs from the highest to the lowest rate")

    def shape(self, lr: float, epoch: int) -> float:
        return lr * max(0.0, 1 - epoch / self.T_max)

    def stretched(self, factor: float) -> "Linear":
        return self.model_copy(update={"T_max": max(1, round(self.T_max * factor))})


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

    def shape(self, lr: float, epoch: int) -> float:
        return lr * self.gamma ** sum(milestone <= epoch for milestone in self.milestones)

    def stretched(self, factor: float) -> "Multistep":
        epochs = sorted({max(1, round(milestone * factor)) for milestone in self.milestones})
        return self.model_copy(update={"milestones": tuple(epochs)})


def _cosine(lr: float, lowest: float, epoch: int, length: int) -> float:
    wave = (1 + math.cos(math.pi * epoch / length)) / 2
    return lowest + (lr - lowest) * wave
