"""What a kernel is bound to besides its trace: the form of the tensors."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Form(NamedTuple):
    """All of a call but its numbers.

    `shape`, `strides`: of `[T, B, ...]`; of one time step `[B, ...]` where it is `static`,
    presented `time_steps` times. `rest`: the states before the first step where none are given.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    time_steps: int
    static: bool
    rest: tuple[float, ...]
    coef_shapes: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(
        x: Tensor, coefs: Sequence[Tensor], time_steps: int, static: bool, rest: tuple[float, ...]
    ) -> "Form":
        shapes = tuple([coef.shape for coef in coefs])
        return Form(x.shape, x.stride(), x.dtype, x.device, time_steps, static, rest, shapes)

    @property
    def step_shape(self) -> tuple[int, ...]:
        return tuple(self.shape if self.static else self.shape[1:])

    @property
    def step_strides(self) -> tuple[int, ...]:
        return self.strides if self.static else self.strides[1:]

    @property
    def empty(self) -> bool:
        return self.time_steps == 0 or 0 in self.step_shape
