"""A fixed pool of neurons, memory layouts and data for the compiler's tests.

Every new step, dtype, walk or set of gradients is seconds of compilation, so tests draw sizes,
layouts and data freely but neurons from here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spikeloom.neurons import (
    IF,
    LIF,
    PLIF,
    ATan,
    FastSigmoid,
    Gaussian,
    Neuron,
    Rectangle,
    Sigmoid,
    Surrogate,
    Triangle,
)

Kind = Literal["one", "channel", "neuron"]


class TwoStates(Neuron):
    """A synaptic current and a membrane potential, with a coef of every sort.

    `decay` and `leak` are constant over time, `gain` is one value per time step, `bias` one per
    time step and channel (or neuron); `scale` does not learn, and `idle` is not used.
    """

    states = ("i", "v")
    observed = ("h",)
    time_coefs = ("gain", "bias")

    def __init__(
        self,
        x_shape: tuple[int, ...],
        decay: Kind = "one",
        leak: Kind = "channel",
        surrogate: Surrogate | None = None,
        backend: Literal["auto", "eager", "cpu"] = "cpu",
    ) -> None:
        super().__init__(surrogate=surrogate, backend=backend)
        random = torch.Generator().manual_seed(math.prod(x_shape))
        sizes = {"one": (), "channel": x_shape[2:3], "neuron": x_shape[2:]}

        def parameter(*shape: int) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.rand(shape, generator=random) * 0.8 + 0.1)

        self.decay = parameter(*sizes[decay])
        self.leak = parameter(*sizes[leak])
        self.gain = parameter(x_shape[0])
        self.bias = parameter(x_shape[0], *sizes[leak])
        self.idle = parameter()
        self.register_buffer("scale", torch.tensor(0.375))

    def coefs(self) -> dict[str, Tensor]:
        names = ("decay", "leak", "gain", "bias", "scale", "idle")
        return {name: getattr(self, name) for name in names}

    def rest(self) -> dict[str, float]:
        return {"v": 0.125}

    def step(
        self, x: Tensor, i: Tensor, v: Tensor, *, decay, leak, gain, bias, scale, idle
    ) -> tuple[Tensor, ...]:
        i = i * decay + x * gain
        h = v + (i - v) * leak + bias * scale
        s = self.surrogate(h - 1.0)
        return s, i - 0.25 * s, h * (1 - s), h


Make = Callable[[tuple[int, ...]], Neuron]


@dataclass(frozen=True)
class Entry:
    """A neuron of the pool: `make(x_shape)`, the least number of axes of its input, the dtypes it
    is tested in."""

    make: Make
    axes: int = 2
    double: bool = False
    static: bool = False


POOL: dict[str, Entry] = {
    "lif": Entry(lambda x: LIF(backend="cpu"), double=True),
    "if soft, triangle, strict": Entry(
        lambda x: IF(v_reset=None, surrogate=Triangle(strict=True), backend="cpu")
    ),
    "lif to -0.5, fast sigmoid": Entry(
        lambda x: LIF(3.0, v_reset=-0.5, surrogate=FastSigmoid(4.0), backend="cpu")
    ),
    "lif soft, gradient through reset, sigmoid": Entry(
        lambda x: LIF(
            2.5,
            v_reset=None,
            decay_input=False,
            detach_reset=False,
            surrogate=Sigmoid(),
            backend="cpu",
        ),
        double=True,
    ),
    "plif, gradient through reset, rectangle": Entry(
        lambda x: PLIF(1.7, detach_reset=False, surrogate=Rectangle(), backend="cpu")
    ),
    "plif per channel": Entry(
        lambda x: _spread(PLIF(shape=x[2:3], backend="cpu")), axes=3, double=True, static=True
    ),
    "plif per neuron, gaussian": Entry(
        lambda x: _spread(
            PLIF(shape=x[2:], v_reset=-0.25, surrogate=Gaussian(), backend="cpu"),
        ),
        axes=3,
    ),
    "two states, learnable alpha": Entry(
        lambda x: TwoStates(x, surrogate=ATan(learnable=True)), axes=3, double=True, static=True
    ),
    "two states, coefs of all shapes": Entry(
        lambda x: TwoStates(x, "channel", "neuron", ATan(learnable=True)), axes=3
    ),
}


def _spread(neuron: PLIF) -> PLIF:
    """Time constants that differ from one another."""
    with torch.no_grad():
        neuron.w.copy_(torch.linspace(-1.5, 1.5, neuron.w.numel()).reshape(neuron.w.shape))
    return neuron


@dataclass(frozen=True)
class View:
    """A tensor of some shape as a view on a denser or smaller base."""

    base_shape: tuple[int, ...]
    view: Callable[[Tensor], Tensor]


def _plain(shape: tuple[int, ...]) -> View:
    return View(shape, lambda base: base)


def _channels_last(shape: tuple[int, ...]) -> View:
    if len(shape) < 4:
        return _plain(shape)
    return View((*shape[:2], *shape[3:], shape[2]), lambda base: base.movedim(-1, 2))


def _reversed_axes(shape: tuple[int, ...]) -> View:
    """The axes of a step in the opposite order: the batch is innermost."""
    axes = len(shape)
    return View(
        (shape[0], *reversed(shape[1:])), lambda base: base.permute(0, *range(axes - 1, 0, -1))
    )


def _samples_last(shape: tuple[int, ...]) -> View:
    """Batch and channel exchanged in memory."""
    if len(shape) < 3:
        return _plain(shape)
    return View((shape[0], shape[2], shape[1], *shape[3:]), lambda base: base.transpose(1, 2))


def _time_last(shape: tuple[int, ...]) -> View:
    return View((*shape[1:], shape[0]), lambda base: base.movedim(-1, 0))


def _sliced(shape: tuple[int, ...]) -> View:
    """A window with gaps on all sides."""
    window = tuple(slice(1, 1 + size) for size in shape)
    return View(tuple(size + 2 for size in shape), lambda base: base[window])


def _every_second_step(shape: tuple[int, ...]) -> View:
    """Dense steps with gaps between them, from an offset."""
    return View((2 * shape[0] + 1, *shape[1:]), lambda base: base[1::2])


def _unaligned(shape: tuple[int, ...]) -> View:
    """Memory that begins one element after an aligned address."""
    return View((math.prod(shape) + 1,), lambda base: base[1:].view(shape))


def _one_sample(shape: tuple[int, ...]) -> View:
    return View((shape[0], 1, *shape[2:]), lambda base: base.expand(shape))


def _one_step(shape: tuple[int, ...]) -> View:
    return View((1, *shape[1:]), lambda base: base.expand(shape))


def _one_value(shape: tuple[int, ...]) -> View:
    return View((1,) * len(shape), lambda base: base.expand(shape))


LAYOUTS: dict[str, Callable[[tuple[int, ...]], View]] = {
    "contiguous": _plain,
    "channels last": _channels_last,
    "reversed axes": _reversed_axes,
    "samples last": _samples_last,
    "time last": _time_last,
    "sliced": _sliced,
    "every second step": _every_second_step,
    "unaligned": _unaligned,
    "one sample for the batch": _one_sample,
}
STATIC = {"one step for all time": _one_step}
GRADIENT_LAYOUTS = LAYOUTS | STATIC | {"one value everywhere": _one_value}


def random_values(shape: tuple[int, ...], seed: int, ties: bool = False) -> Tensor:
    """float64 values around the threshold; with `ties` on a grid of 1/16, so that many reach it
    exactly."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values = values + 0.75
    return (values * 16).round() / 16 if ties else values.float().double()


def awkward_values(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> Tensor:
    """Ordinary values mixed with NaN, infinities, denormals, both zeros, and the threshold
    itself."""
    tiny = torch.finfo(dtype).tiny
    odd = torch.tensor(
        [
            *(math.nan, math.inf, -math.inf, 0.0, -0.0, tiny / 8, -tiny / 3, tiny),
            *(1.0, 2.0, 1 + torch.finfo(dtype).eps, 1 - torch.finfo(dtype).eps),
            torch.finfo(dtype).max,
        ],
        dtype=dtype,
    )
    random = torch.Generator().manual_seed(seed)
    pick = torch.randint(4 * len(odd), shape, generator=random)
    return torch.where(
        pick < len(odd), odd[pick % len(odd)], random_values(shape, seed, ties=True).to(dtype)
    )
