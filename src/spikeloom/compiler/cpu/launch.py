"""From tensors to kernel calls on the CPU: arguments, scratch, and the sums of coef gradients."""

import struct
import threading
from array import array
from functools import cache
from typing import Any

import torch
from torch import Tensor

from spikeloom.compiler import cache as kernel_cache
from spikeloom.compiler import emit, memory
from spikeloom.compiler.cpu.backward import backward_parameters, backward_scratch, backward_source
from spikeloom.compiler.cpu.forward import forward_parameters, forward_source
from spikeloom.compiler.cpu.plan import find_route
from spikeloom.compiler.cpu.threads import share
from spikeloom.compiler.cpu.writer import Parameter, Storage, Variant
from spikeloom.compiler.front.step import HALF
from spikeloom.compiler.front.trace import Trace
from spikeloom.compiler.plan.call import Form, TraceKey

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


@cache
def _forward_kernel(key: TraceKey, variant: Variant) -> Any:
    return kernel_cache.load(forward_source(key.trace, variant)).run_forward


@cache
def _backward_kernel(key: TraceKey, variant: Variant) -> Any:
    return kernel_cache.load(backward_source(key.trace, variant)).run_backward


class _Driver:
    """A kernel with the words that it is told: those that never change are in `words`, the places
    of the others in `at`."""

    def __init__(
        self,
        kernel: Any,
        parameters: list[Parameter],
        fixed: dict[str, int | float],
        parts: int,
        scratch: int,
        elements: int,
        real: torch.dtype,
    ) -> None:
        self.kernel, self.parts, self.scratch = kernel, parts, scratch
        self.elements, self.real = elements, real
        self.at = {name: place for place, (name, _) in enumerate(parameters)}
        self.words = array("q", [_word(fixed.get(name, 0)) for name, _ in parameters])

    def run(self, words: "array[int]") -> None:
        address = words.buffer_info()[0]

        def work(first: int, last: int) -> None:
            scratch = _scratch(self.scratch, self.real)
            self.kernel(address, first, last, scratch.data_ptr())

        share(work, self.parts, self.elements)


def _word(value: int | float) -> int:
    """A parameter as eight bytes."""
    if isinstance(value, float):
        return struct.unpack("q", struct.pack("d", value))[0]
    return int(value)


class Bound:
    """See `target.BoundKernel`."""

    def __init__(self, key: TraceKey, form: Form) -> None:
        self.key, self.form = key, form
        signature = key.trace.signature
        self.states = emit.state_names(signature.states)
        self.coefs = emit.coef_names(signature.coefs)
        self.route = find_route(*form.walk(signature))
        self.plan, self.layout = self.route.plan, self.route.layout
        self.real = torch.float32 if form.dtype in HALF else form.dtype
        size, times = self.layout.size, form.time_steps
        self.whole = (times, *self.layout.shape), (size, *self.layout.strides)
        self.step = self.layout.shape, self.layout.strides
        self.elements = size * times
        fits = self.layout.fits_strides(form.strides if form.static else form.strides[1:])
        far = form.static or times <= 1 or form.strides[0] >= size or form.strides[0] == 0
        self.x_fits = fits and far
        self.x_time = size
        if form.static:
            self.x_time = 0
        elif times > 1 and self.x_fits:
            self.x_time = form.strides[0]
        self.flat = [
            kind == "scalar" or (kind == "channel" and self.plan.nest == "row")
            for kind in self.plan.kinds
        ]
        self.empty = form.empty
        self._forward: dict[tuple[tuple[str, ...], bool, bool], _Driver] = {}
        self._backward: dict[tuple[bool, bool, bool, tuple[bool, ...]], _Driver] = {}

    def forward(
        self,
        x: Tensor,
        starts: list[Tensor],
        coefs: list[Tensor],
        record: tuple[str, ...],
        want_state: bool,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        form, real = self.form, self.real
        out = memory.empty(*self.whole, form.dtype)
        finals = [_empty(self.step, real) for _ in self.states] if want_state else []
        records = [memory.empty(*self.whole, real) for _ in record]
        if self.empty:
            for j, final in enumerate(finals):
                final.copy_(starts[j]) if starts else final.fill_(form.rest[j])
            return out, finals, records
        purpose = (record, want_state, bool(starts))
        driver = self._forward.get(purpose) or self._make_forward(*purpose)
        words, at = driver.words[:], driver.at
        if not self.x_fits:
            x = self.layout.bring(x, form.dtype)
        words[at["x"]] = x.data_ptr()
        words[at["out"]] = out.data_ptr()
        alive = self._put_states(words, at, "start", starts)
        self._put_all(words, at, "final", finals)
        alive += self._put_coefs(words, at, coefs)
        for name, values in zip(record, records, strict=True):
            words[at[f"record_{name}_"]] = values.data_ptr()
        driver.run(words)
        del alive  # until here the kernel read it
        return out, finals, records

    def backward(
        self,
        x: Tensor,
        starts: list[Tensor],
        coefs: list[Tensor],
        grad_spikes: Tensor,
        grad_finals: list[Tensor],
        want_x: bool,
        want_coefs: list[bool],
    ) -> tuple[Tensor | None, list[Tensor], list[Tensor | None]]:
        form, real, plan = self.form, self.real, self.plan
        gx = None
        if want_x and form.static:
            gx = _empty(self.step, real)
        elif want_x:
            gx = memory.empty(*self.whole, form.dtype)
        grad_starts = [_empty(self.step, real) for _ in starts]
        if self.empty:
            for j, grad in enumerate(grad_starts):
                grad.copy_(grad_finals[j]) if grad_finals else grad.zero_()
            if gx is not None:
                gx.zero_()
            zeros = [
                torch.zeros_like(coef, dtype=real) if wanted else None
                for coef, wanted in zip(coefs, want_coefs, strict=True)
            ]
            return None if gx is None else gx.to(form.dtype), grad_starts, zeros
        purpose = (bool(starts), bool(grad_finals), want_x, tuple(want_coefs))
        driver = self._backward.get(purpose) or self._make_backward(*purpose)
        words, at = driver.words[:], driver.at
        if not self.x_fits:
            x = self.layout.bring(x, form.dtype)
        g = self.layout.bring(grad_spikes, form.dtype)
        words[at["x"]] = x.data_ptr()
        words[at["g"]] = g.data_ptr()
        words[at["g_time"]] = g.stride(0) if form.time_steps > 1 else self.layout.size
        if gx is not None:
            words[at["gx"]] = gx.data_ptr()
        alive = self._put_states(words, at, "start", starts)
        alive += self._put_states(words, at, "grad_final", grad_finals)
        self._put_all(words, at, "grad_start", grad_starts)
        alive += self._put_coefs(words, at, coefs)
        sums: list[Tensor | None] = []
        for index, own in enumerate(self.coefs):
            part = None
            if want_coefs[index]:
                part = torch.zeros(self._parts(index), dtype=torch.float64)
                words[at[f"part_{own}"]] = part.data_ptr()
            sums.append(part)
        driver.run(words)
        del alive
        grads = [
            None
            if part is None
            else plan.unpack(
                index, part[0] if len(part) == 1 else part.sum(0), coefs[index].shape
            ).to(real)
            for index, part in enumerate(sums)
        ]
        return gx if gx is None or gx.dtype is form.dtype else gx.to(form.dtype), grad_starts, grads

    def _make_forward(self, record: tuple[str, ...], want_state: bool, started: bool) -> _Driver:
        trace, tiles = self.key.trace, self.route.forward
        variant = self._variant(record=record)
        fixed = self._fixed(tiles.geometry(self.form.time_steps), forward_parameters, variant)
        fixed |= {"has_start": started, "want_final": want_state}
        driver = _Driver(
            _forward_kernel(self.key, variant),
            forward_parameters(trace, variant),
            fixed,
            tiles.parts,
            max(1, len(self.states)) * tiles.stride,
            self.elements,
            self.real,
        )
        self._forward[record, want_state, started] = driver
        return driver

    def _make_backward(
        self, started: bool, ended: bool, want_x: bool, want_coefs: tuple[bool, ...]
    ) -> _Driver:
        trace, tiles, plan = self.key.trace, self.route.backward, self.plan
        wanted = zip(trace.signature.coefs, want_coefs, strict=True)
        leaves = [name for name, want in wanted if want] + ["x"] * want_x
        variant = self._variant(gradients=frozenset(leaves))
        fixed = self._fixed(tiles.geometry(self.form.time_steps), backward_parameters, variant)
        fixed |= {"has_start": started, "has_grad_final": ended, "want_grad_start": started}
        for index, own in enumerate(self.coefs):
            _, times, width = self._parts(index)
            fixed |= {f"{own}times": times, f"{own}timed": plan.per_time[index]}
            fixed[f"{own}width"] = width
        driver = _Driver(
            _backward_kernel(self.key, variant),
            backward_parameters(trace, variant),
            fixed,
            tiles.parts,
            backward_scratch(trace, variant, self.form.time_steps) * tiles.stride,
            self.elements,
            self.real,
        )
        self._backward[started, ended, want_x, want_coefs] = driver
        return driver

    def _parts(self, index: int) -> tuple[int, int, int]:
        """The shape of the partial sums of a coef's gradient: copies, time steps, width."""
        copies, width = self.route.backward.partial_shape(index)
        times = self.form.coef_shapes[index][0] if self.plan.per_time[index] else 1
        return copies, times, width

    def _variant(
        self, record: tuple[str, ...] = (), gradients: frozenset[str] = frozenset()
    ) -> Variant:
        names = self.key.trace.signature.coefs
        return Variant(
            storage=STORAGE[self.form.dtype],
            nest=self.plan.nest,
            vectors=frozenset(name for i, name in enumerate(names) if self.plan.is_vector(i)),
            static=self.form.static,
            record=record,
            gradients=gradients,
        )

    def _fixed(
        self, geometry: tuple[int, ...], parameters: Any, variant: Variant
    ) -> dict[str, int | float]:
        """The parameters of a driver that the form decides."""
        names = [name for name, _ in parameters(self.key.trace, variant)]
        fixed: dict[str, int | float] = dict(zip(names, geometry, strict=False))
        fixed["x_time"] = self.x_time
        fixed |= {
            f"{own}rest": float(r) for own, r in zip(self.states, self.form.rest, strict=True)
        }
        for index, own in enumerate(self.coefs):
            fixed[f"{own}time"] = self._width(index) if self.plan.per_time[index] else 0
            fixed[f"{own}channel"] = self.plan.kinds[index] != "scalar"
        return fixed

    def _width(self, index: int) -> int:
        """Elements of a packed coef at one time step."""
        if self.plan.kinds[index] == "scalar":
            return 1
        return self.plan.channels if self.plan.nest == "row" else self.plan.inner

    def _put_states(
        self, words: "array[int]", at: dict[str, int], what: str, tensors: list[Tensor]
    ) -> list[Tensor]:
        """Puts the addresses of states, brought into memory order; returns what was read."""
        brought = [self.layout.bring(tensor, self.real) for tensor in tensors]
        self._put_all(words, at, what, brought)
        return brought

    def _put_all(
        self, words: "array[int]", at: dict[str, int], what: str, tensors: list[Tensor]
    ) -> None:
        for own, tensor in zip(self.states, tensors, strict=False):
            words[at[own + what]] = tensor.data_ptr()

    def _put_coefs(
        self, words: "array[int]", at: dict[str, int], coefs: list[Tensor]
    ) -> list[Tensor]:
        """Puts the addresses of the coefs, packed; returns what was read."""
        packed = [
            coef if flat and coef.is_contiguous() else self.plan.pack(index, coef.detach())
            for index, (flat, coef) in enumerate(zip(self.flat, coefs, strict=True))
        ]
        for own, coef in zip(self.coefs, packed, strict=True):
            words[at[own]] = coef.data_ptr()
        return packed


bind = Bound


def _empty(step: tuple[tuple[int, ...], tuple[int, ...]], dtype: torch.dtype) -> Tensor:
    return torch.empty_strided(*step, dtype=dtype, device="cpu")


_local = threading.local()


def _scratch(size: int, real: torch.dtype) -> Tensor:
    """This thread's scratch memory, kept between calls; allocated by torch, which aligns it."""
    kept: dict[torch.dtype, Tensor] = _local.__dict__.setdefault("scratch", {})
    if real not in kept or kept[real].numel() < size:
        kept[real] = torch.empty(size, dtype=real, device="cpu")
    return kept[real]
