"""A chain of layers on `[T, B, ...]`."""

from typing import overload

from torch import Tensor, nn

from spikeloom.nn.fold import check_axes, check_per_step, is_time_aware, per_step, wrong_answer
from spikeloom.nn.state import (
    GivenNetworkState,
    NetworkState,
    check_names,
    holds_state,
    initial_state,
    stream,
    trial,
)


class Sequential(nn.Sequential):
    """Layers one after the other, on `[T, B, ...]`.

    A layer that knows about time (a `Neuron`, or any module with the attribute `time_first = True`)
    is called on the whole `[T, B, ...]`. Every other layer is an ordinary one, applied to each time
    step: runs of such layers see time folded into the batch, `[T*B, ...]`, and a current that is
    constant over T (`image.expand(T, ...)`, stride 0) is computed once and expanded, up to the
    first layer that draws random numbers. An ordinary `nn.BatchNorm2d` therefore normalises over
    all time steps together; `spikeloom.nn.BatchNorm` normalises per step.

    >>> from torch.nn import Conv2d, Flatten, Linear
    >>> net = Sequential(Conv2d(1, 32, 3), PLIF(tau=2.0), Flatten(), Linear(21632, 10), LIF())
    >>> net(torch.zeros(4, 2, 1, 28, 28)).shape
    torch.Size([4, 2, 10])

    With a state, `y, state = net(piece, state)`, the chain goes on from where the piece before left
    it: see `stream`. None is the state at rest, and so is `initial_state(x)`.

    A chain is itself time-aware, so chains nest. Raises `TypeError` where an ordinary container
    hides a layer that needs the time axis, `ValueError` where a per-step layer changes the number
    of samples.
    """

    time_first = True

    @overload
    def forward(self, input: Tensor) -> Tensor: ...
    @overload
    def forward(self, input: Tensor, state: NetworkState | None) -> tuple[Tensor, NetworkState]: ...
    def forward(
        self, input: Tensor, state: GivenNetworkState = False
    ) -> Tensor | tuple[Tensor, NetworkState]:
        before = state or {}
        if before:
            check_names(self, before, set(self._modules))
        x = input
        after: NetworkState = {}
        pending: list[nn.Module] = []
        for name, layer in self._modules.items():
            assert layer is not None
            if not getattr(layer, "time_first", False):
                if layer._modules:
                    check_per_step(layer)
                pending.append(layer)
                continue
            if pending:
                x, pending = apply(pending, x), []
            if state is False or not holds_state(layer):
                x = layer(x)
                continue
            x, carried = stream(layer, x, before.get(name))
            if carried:
                after[name] = carried
        if pending:
            x = apply(pending, x)
        return x if state is False else (x, after)

    def initial_state(self, x: Tensor) -> NetworkState:
        """The state at rest of every layer that remembers, for an input like `x` `[T, B, ...]`."""
        rest: NetworkState = {}
        pending: list[nn.Module] = []
        x = x[:1]
        with trial(self):
            for name, layer in self._modules.items():
                assert layer is not None
                if not is_time_aware(layer):
                    pending.append(layer)
                    continue
                x, pending = apply(pending, x), []
                if holds_state(layer):
                    rest[name] = initial_state(layer, x)
                x, _ = stream(layer, x)
        return {name: state for name, state in rest.items() if state}


def apply(layers: list[nn.Module], x: Tensor) -> Tensor:
    """Ordinary layers in a row: fold once, not once per layer. A constant current is followed layer
    by layer, for as long as it stays one."""
    if layers:
        check_axes(layers[0], x)
    while layers and x.dim() and x.shape[0] > 1 and x.stride(0) == 0:
        x, layers = per_step(layers[0], x), layers[1:]
    if not layers:
        return x

    def chain(folded: Tensor) -> Tensor:
        for layer in layers:
            before, folded = folded, layer(folded)
            if not isinstance(folded, Tensor):
                raise wrong_answer(layer, folded, len(before))
        return folded

    return per_step(layers[0] if len(layers) == 1 else chain, x)
