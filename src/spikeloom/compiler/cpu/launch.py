"""From tensors to kernel calls on the CPU: arguments and scratch."""

import math
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spikeloom.compiler import cache as kernel_cache
from spikeloom.compiler import memory
from spikeloom.compiler.cpu.backward import backward_parameters, backward_scratch, backward_source
from spikeloom.compiler.cpu.forward import forward_parameters, forward_source
from spikeloom.compiler.cpu.loops import geometry_arguments
from spikeloom.compiler.cpu.plan import Tiles
from spikeloom.compiler.cpu.threads import SERIAL_BELOW, share
from spikeloom.compiler.cpu.writer import Parameter, Storage, Variant, words_of
from spikeloom.compiler.front.trace import Trace
from spikeloom.compiler.plan.bound import BoundKernel, Part

STORAGE: dict[torch.dtype, Storage] = {
    torch.float32: "f4",
    torch.float64: "f8",
    torch.bfloat16: "bf16",
    torch.float16: "f16",
}


def kernel_text(trace: Trace, dtype: torch.dtype) -> str:
    """Both kernels of a step whose coefs are per layer."""
    gradients = frozenset(("x", *trace.signature.coefs))
    storage = STORAGE[dtype]
    return "\n\n".join(
        (
            forward_source(trace, Variant(storage, "row")),
            backward_source(trace, Variant(storage, "row", gradients=gradients)),
        )
    )


class _Driver:
    """A kernel with the words that it is told: those that never change are in `words`, the places
    of the tensors' addresses in `places`."""

    def __init__(
        self,
        kernel: Any,
        parameters: list[Parameter],
        fixed: dict[str, int | float],
        tensors: list[str],
        tiles: Tiles,
        blocks: int,
        bound: "CpuKernel",
        parts: tuple[Part, ...] = (),
    ) -> None:
        at = {name: place for place, (name, _) in enumerate(parameters)}
        self.kernel, self.parts = kernel, parts
        self.words = words_of(parameters, fixed)
        self.places = [at[name] for name in tensors]
        self.g_time = at.get("g_time")
        self.count, self.scratch, self.real = tiles.parts, blocks * tiles.stride, bound.dtype
        self.elements = bound.layout.size * bound.form.time_steps
        self.alone = self.count <= 1 or self.elements < SERIAL_BELOW

    def run(self, tensors: Iterable[Tensor], g_time: int) -> None:
        words = self.words[:]
        for place, tensor in zip(self.places, tensors, strict=True):
            words[place] = tensor.data_ptr()
        if self.g_time is not None:
            words[self.g_time] = g_time
        address = words.buffer_info()[0]
        if self.alone or torch.get_num_threads() == 1:
            scratch = _memory.grow(self.scratch, self.real)
            self.kernel(address, 0, self.count, scratch.data_ptr())
            return

        def work(first: int, last: int) -> None:
            scratch = _memory.grow(self.scratch, self.real)
            self.kernel(address, first, last, scratch.data_ptr())

        share(work, self.count, self.elements)


class CpuKernel(BoundKernel):
    """A bound kernel whose arguments are an array of words: addresses, sizes, and flags."""

    sum_dtype = torch.float64

    def allocator(
        self, shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype
    ) -> Callable[[], Tensor]:
        if math.prod(shape) * dtype.itemsize >= memory.LARGE:
            return partial(memory.empty, shape, strides, dtype)
        return super().allocator(shape, strides, dtype)

    def launch_forward(self, record: tuple[str, ...], want_state: bool, started: bool) -> _Driver:
        tiles = Tiles(self.plan, len(self.states), 1)
        variant = self._variant(record=record)
        parameters = forward_parameters(self.trace, variant)
        fixed = self._fixed(tiles) | {"has_start": started, "want_final": want_state}
        return _Driver(
            kernel_cache.function(forward_source, "run_forward", self.trace, variant),
            parameters,
            fixed,
            self.forward_names(record, want_state, started),
            tiles,
            max(1, len(self.states)),
            self,
        )

    def launch_backward(
        self, started: bool, ended: bool, want_x: bool, want_coefs: tuple[bool, ...]
    ) -> _Driver:
        trace, plan = self.trace, self.plan
        tiles = Tiles(plan, len(self.states), self.form.time_steps)
        pairs = zip(trace.signature.coefs, want_coefs, strict=True)
        leaves = [name for name, want in pairs if want] + ["x"] * want_x
        variant = self._variant(gradients=frozenset(leaves))
        parameters = backward_parameters(trace, variant)
        fixed = self._fixed(tiles)
        fixed |= {"has_start": started, "has_grad_final": ended, "want_grad_start": started}
        parts = []
        for index, var in enumerate(self.coefs):
            copies, width = tiles.partial_shape(index)
            times = self.form.coef_shapes[index][0] if plan.per_time[index] else 1
            fixed |= {f"{var}times": times, f"{var}timed": plan.per_time[index]}
            fixed[f"{var}width"] = width
            parts += [Part((copies, times, width))] * want_coefs[index]
        return _Driver(
            kernel_cache.function(backward_source, "run_backward", trace, variant),
            parameters,
            fixed,
            self.backward_names(started, ended, want_x, want_coefs),
            tiles,
            backward_scratch(trace, variant, self.form.time_steps),
            self,
            tuple(parts),
        )

    def _variant(
        self, record: tuple[str, ...] = (), gradients: frozenset[str] = frozenset()
    ) -> Variant:
        return Variant(
            storage=STORAGE[self.form.dtype],
            nest=self.plan.nest,
            vectors=self.vectors,
            static=self.form.static,
            record=record,
            gradients=gradients,
        )

    def _fixed(self, tiles: Tiles) -> dict[str, int | float]:
        """The arguments that the form decides."""
        geometry = zip(
            geometry_arguments(self.plan.nest), tiles.geometry(self.form.time_steps), strict=True
        )
        fixed: dict[str, int | float] = dict(geometry)
        fixed["x_time"] = self.x_time
        for var, value in zip(self.states, self.form.rest, strict=True):
            fixed[f"{var}rest"] = float(value)
        for index, var in enumerate(self.coefs):
            fixed[f"{var}time"] = self.plan.width(index) if self.plan.per_time[index] else 0
            fixed[f"{var}channel"] = self.plan.kinds[index] != "scalar"
        return fixed


bind = CpuKernel


class _Memory(threading.local):
    """Each thread's scratch memory, kept between calls; allocated by torch, which aligns it."""

    def __init__(self) -> None:
        self.scratch: dict[torch.dtype, Tensor] = {}

    def grow(self, size: int, real: torch.dtype) -> Tensor:
        """At least so many elements."""
        scratch = self.scratch.get(real)
        if scratch is None or scratch.numel() < size:
            scratch = self.scratch[real] = torch.empty(size, dtype=real, device="cpu")
        return scratch


_memory = _Memory()
