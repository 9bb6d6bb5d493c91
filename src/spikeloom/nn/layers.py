"""Layers without neurons: an image as a current over time, dropout with one mask, and readouts."""

from typing import Literal

import torch
from torch import Tensor, nn

from spikeloom.compiler.constant import repeated_step
from spikeloom.neurons.fixed import FixedConstants
from spikeloom.neurons.neuron import GivenState, State
from spikeloom.nn.fold import is_constant
from spikeloom.nn.state import StatefulLayer

Over = Literal["last", "mean", "max", "sum"]


class StaticCoding(nn.Sequential):
    """A learned encoder that runs once per forward pass, for a current that is the same at all T.

        x_t = layers(image)   for t = 1 ... T

    Takes an image `[B, C, H, W]`, gives `[T, B, ...]` with stride 0 in time: a view, never T
    copies. Its BatchNorm layers are ordinary ones (`nn.BatchNorm2d`) and update their running
    statistics once; gradients accumulate over T.

    `time_steps`: T, at least 1. First in a `Sequential`, it makes the network one for images.
    """

    time_first = True

    def __init__(self, time_steps: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        if time_steps < 1:
            raise ValueError(f"time_steps={time_steps!r}: expected at least one time step")
        self.time_steps = time_steps

    def forward(self, input: Tensor) -> Tensor:
        current = super().forward(input)
        if self.time_steps == 1:
            # The gradient of an expansion is a sum, which forgets that channels are last in memory:
            # torch's BatchNorm then takes its slowest path.
            return current.unsqueeze(0)
        return current.expand(self.time_steps, *current.shape)

    def extra_repr(self) -> str:
        return f"time_steps={self.time_steps}"


class Dropout(StatefulLayer):
    """Zero a fraction `p` of the inputs, the same ones at all T time steps of a forward pass.

        y_t = x_t * m / (1 - p),   m ~ Bernoulli(1 - p) of shape [B, ...]

    Training: a fresh mask per forward pass, drawn per sample from torch's default generator of the
    input's device. Evaluation: the identity. A mask that changed with t would make a spike train
    noisier than a weaker input; fixing it trains a sub-network, as dropout does for a static net
    (Lee et al., 2020; used by PLIF). Run in pieces, `y, state = dropout(piece, state)`, all pieces
    of a sequence share the mask: it is the state.

    `p`: 0.5, in [0, 1). `keep`: None, or a 0/1 tensor that broadcasts against `[B, ...]` and is
    used in place of a drawn mask while training (for tests and for comparisons with other
    implementations).
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p={p!r}: expected a dropout probability in [0, 1)")
        self.p = p
        self.keep: Tensor | None = None

    def advance(self, x: Tensor, state: GivenState) -> tuple[Tensor, State]:
        """`x` `[T, B, ...]` -> the same shape; the mask is drawn with the first piece."""
        if not self.training or (self.p == 0 and self.keep is None):
            return x, state or ()
        if state:
            (mask,) = state
            if mask.shape != x.shape[1:]:
                raise ValueError(
                    f"Dropout got a state of shape {list(mask.shape)} for an input of shape "
                    f"{list(x.shape)}: expected {list(x.shape[1:])}"
                )
        elif self.keep is None:
            mask = torch.empty_like(x[0]).bernoulli_(1 - self.p).div_(1 - self.p)
        else:
            mask = (self.keep.to(x) / (1 - self.p)).expand_as(x[0])
        y = (repeated_step(x) * mask).expand(x.shape) if is_constant(x) else x * mask
        return y, (mask,)

    def extra_repr(self) -> str:
        return f"p={self.p:g}"


class Voting(nn.Module):
    """Average groups of neighbouring neurons.

        y[..., c] = (1 / votes) * sum_j x[..., c * votes + j]

    `votes`: 10 neurons per class. Takes `[..., classes * votes]` (with or without time), gives
    `[..., classes]`. Raises `ValueError` if the last axis is not a multiple of `votes`.
    """

    time_first = True

    def __init__(self, votes: int = 10) -> None:
        super().__init__()
        if votes < 1:
            raise ValueError(f"votes={votes!r}: expected at least one neuron per class")
        self.votes = votes

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % self.votes:
            raise ValueError(
                f"{x.shape[-1]} neurons do not divide into groups of {self.votes}: "
                "give the last layer classes * votes outputs"
            )
        return x.unflatten(-1, (-1, self.votes)).mean(-1)

    def extra_repr(self) -> str:
        return f"votes={self.votes}"


class Readout(StatefulLayer, FixedConstants):
    """One value from all time steps, the last layer of a network: `[T, B, ...]` -> `[B, ...]`.

        "last"  x_T          "mean"  (x_1 + ... + x_T) / T
        "max"   max x_t      "sum"   x_1 + ... + x_T

    Over the potentials of `LI` neurons the answer is logits or a regression; over spikes "mean" is
    the firing rate, "sum" the count. In pieces, `y, state = readout(piece, state)`, `y` is the
    answer so far: "last" and "max" exactly, sums up to rounding.
    """

    def __init__(self, over: Over = "mean") -> None:
        super().__init__()
        if over not in ("last", "mean", "max", "sum"):
            raise ValueError(f"over={over!r}: expected 'last', 'mean', 'max' or 'sum'")
        self.over: Over = over

    def advance(self, x: Tensor, state: GivenState) -> tuple[Tensor, State]:
        """`x` `[T, B, ...]`, T >= 1 -> `[B, ...]`; the state is the value so far, and the number
        of steps behind it."""
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
        return y, (value, torch.tensor(count))

    def extra_repr(self) -> str:
        return repr(self.over)
