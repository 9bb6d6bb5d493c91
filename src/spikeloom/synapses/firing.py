"""Neurons of a network that only answers, before a layer that asks which of them fired.

An image's neurons are taken through all time steps at once, and who fired (after max pooling, if
there is some) is handed on as lists: no spike is written down as a number.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from spikeloom.compiler.cpu.pieces import copied_in, copied_out, only_if
from spikeloom.compiler.cpu.threads import share
from spikeloom.compiler.cpu.writer import Parameter
from spikeloom.compiler.emit import indent
from spikeloom.compiler.front.trace import Trace
from spikeloom.synapses.active import all_ones, real
from spikeloom.synapses.fired import ConstantSpikes, Fired
from spikeloom.synapses.memory import workspace
from spikeloom.synapses.steps import Kernel, Neurons, State, step_segment, step_writer

_SIZES = ("T", "rows", "tall", "wide", "together", "window", "channels")

TILE_BYTES = 6 << 10
"""Of a state of the neurons that are taken through time together."""


@cache
def _fire_kernel(trace: Trace, dtype: torch.dtype, vectors: frozenset[str]) -> Kernel:
    """Parts are samples. A tile is what some neighbouring windows cover: its states, and the spikes
    of one time step, are scratch, and small enough for the first cache."""
    writer = step_writer(trace, dtype, vectors)
    writer.calls["synapses.nonzero"] = ("list_window",)
    count = len(writer.states)
    at = [f"{j} * tile + h * across" for j in range(count)]
    call, text = step_segment(
        writer,
        ("x", "sample * x_sample + t * x_time + place + q"),
        ("scratch", f"{count} * tile + h * across + q"),
        [f"{each} + q" for each in at],
    )
    place = "place = (i * tall + h) * line + w0 * window * channels"
    address = "sample * rows * tall * line + place"
    body = [
        "line = wide * window * channels",
        "tile = tall * together * window * channels",
        "pixels = rows * wide",
        "for sample in range(first, last):",
        "    for t in range(T):",
        "        ends[(sample * T + t + 1) * (pixels + 1) - 1] = 0",
        "    for i in range(rows):",
        "        for w0 in range(0, wide, together):",
        "            some = min(together, wide - w0)",
        "            across = some * window * channels",
        "            m = across" if not vectors else "            m = channels",
        "            for h in range(tall):",
        f"                {place}",
        *indent(copied_in(writer, at, address, "across"), 4),
        "            for t in range(T):",
        "                for h in range(tall):",
        f"                    {place}",
        "                    for q in range(0, across, m):",
        *indent(call, 6),
        "                image = sample * T + t",
        "                begin = image * capacity",
        "                ends_at = image * (pixels + 1)",
        "                k = begin + ends[ends_at + pixels]",
        "                for w in range(some):",
        "                    ends[ends_at + i * wide + w0 + w] = k - begin",
        "                    k = list_window(",
        f"                        scratch, {count} * tile + w * window * channels, across, tall,",
        "                        window, channels, (w0 + w) * channels, index, k,",
        "                    )",
        "                ends[ends_at + pixels] = k - begin",
        "            for h in range(tall):",
        f"                {place}",
        *indent(only_if("want_final", copied_out(writer, at, address, "across", "final")), 4),
    ]
    parameters: list[Parameter] = [
        *((name, "integer") for name in _SIZES),
        *(("x", "storage"), ("x_time", "integer"), ("x_sample", "integer")),
        *(("index", "places"), ("ends", "places"), ("capacity", "integer")),
    ]
    return Kernel("Firing", writer, text, parameters, body)


def takes(neurons: Neurons, shape: tuple[int, ...], window: tuple[int, int]) -> bool:
    """Whether `Firing` has a kernel for a current `[T, B, C, H, W]` or `[T, B, F]`."""
    return (
        len(shape) in (3, 5)
        and 0 not in shape
        and neurons.fit(shape[2])
        and (len(shape) == 3 or (shape[3] % window[0] == 0 and shape[4] % window[1] == 0))
    )


class Firing:
    """Neurons at work on the samples of a batch, some at a time."""

    def __init__(
        self,
        neurons: Neurons,
        shape: tuple[int, ...],
        window: tuple[int, int],
        state: State | None,
        want_state: bool,
    ) -> None:
        """`shape`: of the current, `[T, B, C, H, W]` or `[T, B, F]`; spikes are pooled over
        `window`. `state`: `[B, ...]` each, None at rest."""
        self.time_steps, self.batch, self.channels = shape[:3]
        self.height, self.width = (1, 1) if len(shape) == 3 else shape[3:]
        rows, wide = self.height // window[0], self.width // window[1]
        self.pixels, self.capacity = rows * wide, rows * wide * self.channels
        self.shape = (self.channels,) if len(shape) == 3 else (self.channels, rows, wide)
        self.neurons = neurons
        images = self.time_steps * self.batch
        self.index = np.empty(images * self.capacity, np.int32)
        self.ends = np.empty((images, self.pixels + 1), np.int32)
        self.start = np.arange(images + 1, dtype=np.int64) * self.capacity
        size = (self.channels, rows, wide)
        several = self.time_steps > 1
        self.constant = ConstantSpikes(self.start, self.time_steps, size) if several else None
        self.size = self.channels * self.height * self.width
        column = window[0] * window[1] * self.channels
        together = max(1, min(wide, TILE_BYTES // (column * neurons.dtype.itemsize)))
        self.tile = column * together
        self.starts = [_pixels_first(each, neurons.dtype) for each in state or ()]
        memory = (self.batch, self.height, self.width, self.channels)
        count = len(neurons.rest) * want_state
        self.finals = [torch.empty(memory, dtype=neurons.dtype) for _ in range(count)]
        self.kernel = _fire_kernel(neurons.trace, neurons.dtype, neurons.vectors)
        self.words = self.kernel.words(
            neurons,
            {
                **{"T": self.time_steps, "rows": rows, "tall": window[0], "wide": wide},
                **{"window": window[1], "channels": self.channels, "capacity": self.capacity},
                "together": together,
                **{"has_start": bool(state), "want_final": want_state},
            },
        )

    def add(self, x: Tensor, begin: int = 0) -> None:
        """The current `[T, b, ...]` of samples from `begin` on."""
        x = x.movedim(2, -1) if x.dim() == 5 else x
        row = self.width * self.channels
        inner = (row, self.channels, 1) if x.dim() == 5 else (1,)
        if x.stride()[2:] != inner:
            x = x.contiguous()
        at, words = self.kernel.at, self.words
        words[at["x"]], words[at["x_time"]], words[at["x_sample"]] = x.data_ptr(), *x.stride()[:2]
        image = begin * self.time_steps
        words[at["index"]] = self.index[image * self.capacity :].ctypes.data
        words[at["ends"]] = self.ends[image:].ctypes.data
        for what, tensors in (("start", self.starts), ("final", self.finals)):
            for place, tensor in zip(self.kernel.states(what), tensors, strict=False):
                words[place] = tensor[begin:].data_ptr()
        kind = real(self.neurons.dtype)
        size = (len(self.neurons.rest) + 1) * self.tile
        address = words.buffer_info()[0]

        def work(first: int, last: int) -> None:
            scratch = workspace("neurons", size, kind)
            self.kernel.run(address, first, last, scratch.ctypes.data)

        share(work, x.shape[1], x.shape[1] * self.time_steps * self.size)
        if self.constant is not None:
            self.constant.take(begin, begin + x.shape[1], self.ends.reshape(-1), self.index)

    def fired(self) -> Fired:
        dtype = self.neurons.dtype
        active = all_ones(self.start, self.ends.reshape(-1), self.index, dtype)
        constant = None if self.constant is None else self.constant.lists(dtype)
        return Fired(active, constant, self.time_steps, self.batch, self.shape, dtype)

    def state(self) -> State:
        """After all samples, as the neurons have it."""
        features = len(self.shape) == 1
        return tuple(
            final.flatten(1) if features else final.movedim(-1, 1) for final in self.finals
        )


def _pixels_first(state: Tensor, dtype: torch.dtype) -> Tensor:
    state = state.to(dtype)
    return (state.movedim(1, -1) if state.dim() == 4 else state).contiguous()
