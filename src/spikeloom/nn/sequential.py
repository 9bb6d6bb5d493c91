"""A chain of layers on `[T, B, ...]`."""

from torch import Tensor, nn

from spikeloom.nn.fold import check_per_step, is_time_aware, per_step


class Sequential(nn.Sequential):
    """Layers one after the other, on `[T, B, ...]`.

    A layer that knows about time (a `Neuron`, or any module with the attribute `time_first = True`)
    is called on the whole `[T, B, ...]`. Every other layer is an ordinary one, applied to each time
    step: runs of such layers see time folded into the batch, `[T*B, ...]`, and a current that is
    constant over T (`image.expand(T, ...)`, stride 0) is computed once and expanded. An ordinary
    `nn.BatchNorm2d` therefore normalises over all time steps together; `spikeloom.nn.BatchNorm`
    normalises per step.

    >>> from torch.nn import Conv2d, Flatten, Linear
    >>> net = Sequential(Conv2d(1, 32, 3), PLIF(tau=2.0), Flatten(), Linear(21632, 10), LIF())
    >>> net(torch.zeros(4, 2, 1, 28, 28)).shape
    torch.Size([4, 2, 10])

    A chain is itself time-aware, so chains nest. Raises `TypeError` where an ordinary container
    hides a layer that needs the time axis, `ValueError` where a per-step layer changes the number
    of samples.
    """

    time_first = True

    def forward(self, input: Tensor) -> Tensor:
        x = input
        pending: list[nn.Module] = []
        for layer in self:
            if is_time_aware(layer):
                x = layer(_apply(pending, x))
                pending = []
            else:
                check_per_step(layer)
                pending.append(layer)
        return _apply(pending, x)


def _apply(layers: list[nn.Module], x: Tensor) -> Tensor:
    """Ordinary layers in a row: fold once, not once per layer."""
    if not layers:
        return x

    def chain(folded: Tensor) -> Tensor:
        for layer in layers:
            folded = layer(folded)
        return folded

    return per_step(layers[0] if len(layers) == 1 else chain, x)
