"""How tensors lie in memory, and how coefs lie over them."""

from typing import Literal

Kind = Literal["scalar", "channel", "neuron"]


def coef_kind(name: str, shape: tuple[int, ...], x_shape: tuple[int, ...], per_time: bool) -> Kind:
    """Which neurons share a value of the coef: all of them, those of a channel, or none.

    `x_shape` is `[T, B, C, ...]`. After the time axis (only where `per_time`) a coef has one element, or the
    shape `[C]`, or `[C, ...]` like one sample. Anything else is a ValueError that lists these.
    """
    rest = tuple(shape)
    if per_time:
        if not rest or rest[0] != x_shape[0]:
            raise ValueError(
                f"coef {name!r} of shape {list(shape)} has a value per time step, but the input "
                f"{list(x_shape)} has T={x_shape[0]}: the first axis must be T"
            )
        rest = rest[1:]
    sample = tuple(x_shape[2:])
    if all(size == 1 for size in rest):
        return "scalar"
    if sample and rest == sample[:1]:
        return "channel"
    if rest == sample:
        return "neuron"
    time = "[T] + " if per_time else ""
    raise ValueError(
        f"coef {name!r} of shape {list(shape)} does not fit the input {list(x_shape)}: expected {time}[] (one value), "
        f"{list(sample[:1])} (per channel) or {list(sample)} (per neuron)"
    )
