"""A layer of neurons that hears its own spikes of the step before."""

import torch
from torch import Tensor, nn

from spikeloom.neurons import Neuron


class Recurrent(nn.Module):
    """Neurons with all-to-all feedback, on `[T, B, features]`.

        into="input"        the neurons' input at t is  x_t + R s_{t-1},   s_0 = 0
        into=<state name>   after step t this state of theirs is increased by  R s_t

    The two differ in when a spike acts: a state that step t + 1 reads feels it one step before an
    input of step t + 1 that passes through that state does.

    `neuron`: the neurons, stepped through time one step after the other. `features`: their number.
    R is `recurrent`, a linear map without bias, `[features, features]`.
    Raises `ValueError` for an unknown state, or an input of other features.
    """

    time_first = True

    def __init__(self, neuron: Neuron, features: int, *, into: str = "input") -> None:
        super().__init__()
        if into != "input" and into not in neuron.states:
            raise ValueError(
                f"into={into!r}: expected 'input' or a state of {type(neuron).__name__}: "
                f"{', '.join(neuron.states)}"
            )
        self.into = into
        self.features = features
        self.neuron = neuron
        self.recurrent = nn.Linear(features, features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`x` `[T, B, features]` -> spikes of the same shape."""
        if x.dim() != 3 or x.shape[2] != self.features:
            raise ValueError(
                f"input of shape {list(x.shape)}: expected [T, B, {self.features}] for a recurrent "
                "layer"
            )
        state = self.neuron.initial_state(x)
        place = -1 if self.into == "input" else self.neuron.states.index(self.into)
        spikes: list[Tensor] = []
        for current in x.split(1):
            feedback = self.recurrent(spikes[-1]) if spikes else None
            if feedback is not None and place < 0:
                current = current + feedback
            elif feedback is not None:
                felt = state[place] + feedback[0]
                state = (*state[:place], felt, *state[place + 1 :])
            fired, state = self.neuron(current, state)
            spikes.append(fired)
        return torch.cat(spikes) if spikes else torch.empty_like(x)

    def extra_repr(self) -> str:
        return f"{self.features}, into={self.into!r}"
