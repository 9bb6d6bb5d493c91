"""From a course over time to one answer."""

from typing import Literal, overload

import torch
from torch import Tensor

from spikeloom.neurons.fixed import FixedConstants
from spikeloom.neurons.neuron import GivenState, State

Over = Literal["last", "mean", "max", "sum"]


class Readout(FixedConstants):
    """One value from all time steps, the last layer of a network: `[T, B, ...]` -> `[B, ...]`.

        "last"  x_T          "mean"  (x_1 + ... + x_T) / T
        "max"   max x_t      "sum"   x_1 + ... + x_T

    Over the potentials of `LI` neurons the answer is logits or a regression; over spikes "mean" is
    the firing rate, "sum" the count. In pieces, `y, state = readout(piece, state)`, `y` is the
    answer so far: "last" and "max" exactly, sums up to rounding.
    """

    time_first = True

    def __init__(self, over: Over = "mean") -> None:
        super().__init__()
        if over not in ("last", "mean", "max", "sum"):
            raise ValueError(f"over={over!r}: expected 'last', 'mean', 'max' or 'sum'")
        self.over: Over = over

    def initial_state(self, x: Tensor) -> State:
        """Nothing: no step has been seen."""
        return ()

    @overload
    def forward(self, x: Tensor) -> Tensor: ...
    @overload
    def forward(self, x: Tensor, state: State | None) -> tuple[Tensor, State]: ...
    def forward(self, x: Tensor, state: GivenState = False) -> Tensor | tuple[Tensor, State]:
        """`x` `[T, B, ...]`, T >= 1 -> `[B, ...]`; with a state (the value so far, and the number
        of steps behind it) the state after it too."""
        if not x.shape[0]:
            raise ValueError(f"input of shape {list(x.shape)}: a readout needs a time step")
        reduced = {"last": lambda: x[-1], "max": lambda: x.amax(0)}
        value = reduced.get(self.over, lambda: x.sum(0))()
        count = x.shape[0]  # it may be a symbol of an export
        if state:
            count += int(state[1])
            if self.over == "max":
                value = torch.maximum(state[0], value)
            elif self.over != "last":
                value = state[0] + value
        y = value / count if self.over == "mean" else value
        return y if state is False else (y, (value, torch.tensor(count)))

    def extra_repr(self) -> str:
        return repr(self.over)
