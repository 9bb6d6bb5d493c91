"""Dropout with one mask over time."""

from typing import overload

import torch
from torch import Tensor, nn

from spikeloom.compiler.constant import repeated_step
from spikeloom.neurons.neuron import GivenState, State
from spikeloom.nn.fold import is_constant


class Dropout(nn.Module):
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

    time_first = True

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p={p!r}: expected a dropout probability in [0, 1)")
        self.p = p
        self.keep: Tensor | None = None

    def initial_state(self, x: Tensor) -> State:
        """Nothing: the mask is drawn with the first piece."""
        return ()

    @overload
    def forward(self, x: Tensor) -> Tensor: ...
    @overload
    def forward(self, x: Tensor, state: State | None) -> tuple[Tensor, State]: ...
    def forward(self, x: Tensor, state: GivenState = False) -> Tensor | tuple[Tensor, State]:
        """`x` `[T, B, ...]` -> the same shape; with a state, the state after it too."""
        if not self.training or (self.p == 0 and self.keep is None):
            return x if state is False else (x, state or ())
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
        return y if state is False else (y, (mask,))

    def extra_repr(self) -> str:
        return f"p={self.p:g}"
