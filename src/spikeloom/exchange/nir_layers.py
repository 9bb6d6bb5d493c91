"""Layers of NIR graphs that the library has not: scales, branches that meet."""

from collections.abc import Iterable
from functools import reduce
from operator import add

from torch import Tensor, nn

from spikeloom.nn.fold import is_time_aware
from spikeloom.nn.sequential import apply


class Scale(nn.Module):
    """`scale` times what comes in; `scale` in the shape of a sample."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale: Tensor
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Branches(nn.Module):
    """Layers that part and meet, `[T, B, ...]`: each reads the sum of what others gave.

    `layers`: each after those that it reads; `reads`: of each their numbers, from 1 on, 0 for the
    input. `last`: whose sum is the answer.
    """

    time_first = True

    def __init__(
        self, layers: Iterable[nn.Module], reads: list[tuple[int, ...]], last: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.reads, self.last = reads, last

    def forward(self, x: Tensor) -> Tensor:
        outputs = [x]

        def total(numbers: tuple[int, ...]) -> Tensor:
            return reduce(add, (outputs[number] for number in numbers))

        for layer, numbers in zip(self.layers, self.reads, strict=True):
            y = total(numbers)
            outputs.append(layer(y) if is_time_aware(layer) else apply([layer], y))
        return total(self.last)
