"""One application of a traced step to tensors, whatever kernel will do it."""

from dataclasses import dataclass

from torch import Tensor

from spikeloom.compiler.front.step import Signature
from spikeloom.compiler.front.trace import Trace


@dataclass(frozen=True)
class TraceKey:
    """A trace that can be looked up: two are equal if their texts are."""

    text: str
    trace: Trace

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TraceKey) and self.text == other.text


@dataclass(frozen=True)
class Call:
    """One application of a step: the input `[T, B, ...]`, or `[B, ...]` presented `time_steps`
    times.
    """

    key: TraceKey
    x: Tensor
    starts: list[Tensor]
    coefs: list[Tensor]
    time_steps: int
    static: bool
    rest: list[float]

    @property
    def trace(self) -> Trace:
        return self.key.trace

    @property
    def step_shape(self) -> tuple[int, ...]:
        return tuple(self.x.shape if self.static else self.x.shape[1:])

    @property
    def empty(self) -> bool:
        return self.time_steps == 0 or 0 in self.step_shape

    def shapes(
        self,
    ) -> tuple[Signature, tuple[int, ...], tuple[int, ...], int, tuple[tuple[int, ...], ...]]:
        """What decides how a kernel walks: the arguments of `geometry.find_plan`."""
        strides = self.x.stride() if self.static else self.x.stride()[1:]
        return (
            self.trace.signature,
            self.step_shape,
            tuple(strides),
            self.time_steps,
            tuple(tuple(coef.shape) for coef in self.coefs),
        )
