"""From tensors to kernel calls on the CPU: layout, blocks, scratch, and the sums of coef
gradients.
"""

import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeloom.compiler import cache as kernel_cache
from spikeloom.compiler import cpu
from spikeloom.compiler.eager import compute_dtype
from spikeloom.compiler.emit import Storage, Variant
from spikeloom.compiler.geometry import Kind, Layout, Plan, coef_kind, plan
from spikeloom.compiler.threads import share
from spikeloom.compiler.trace import Trace

GROUPS = 16
"""Partial sums of a coef gradient. Fixed, whatever the number of threads: the sums keep their
order.
"""

STORAGE: dict[torch.dtype, Storage] = {
    torch.float32: "f4",
    torch.float64: "f8",
    torch.bfloat16: "bf16",
    torch.float16: "f16",
}


@dataclass(frozen=True)
class Call:
    """One application of a step: the input `[T, B, ...]`, or `[B, ...]` presented `time_steps`
    times.
    """

    trace: Trace
    x: Tensor
    starts: list[Tensor]
    coefs: list[Tensor]
    time_steps: int
    static: bool
    rest: list[float]

    @property
    def step_shape(self) -> tuple[int, ...]:
        return tuple(self.x.shape if self.static else self.x.shape[1:])

    @property
    def whole_shape(self) -> tuple[int, ...]:
        return (self.time_steps, *self.step_shape)

    def layout(self) -> Layout:
        """The memory order that results are written in: that of the input, if it is dense."""
        x = self.x
        one = x if self.static else x[0] if self.time_steps else x.new_empty(self.step_shape)
        found = Layout.of(one)
        if found is None or self._plan(found) is None:
            found = Layout.contiguous(self.step_shape)
        return found

    def plan(self, layout: Layout) -> Plan:
        found = self._plan(layout)
        assert found is not None
        return found

    def _plan(self, layout: Layout) -> Plan | None:
        step = self.trace.step
        per_time = tuple(name in step.time_coefs for name in step.coefs)
        kinds: tuple[Kind, ...] = tuple(
            coef_kind(name, tuple(coef.shape), self.whole_shape, timed)
            for name, coef, timed in zip(step.coefs, self.coefs, per_time, strict=True)
        )
        return plan(layout, kinds, per_time)


@cache
def _forward_kernel(trace: "TraceKey", variant: Variant) -> Any:
    return kernel_cache.load(cpu.forward_source(trace.trace, variant)).run_forward


@cache
def _backward_kernel(trace: "TraceKey", variant: Variant) -> Any:
    return kernel_cache.load(cpu.backward_source(trace.trace, variant)).run_backward


@dataclass(frozen=True)
class TraceKey:
    """A trace that can be looked up: two are equal if their graphs are."""

    text: str
    trace: Trace

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TraceKey) and self.text == other.text


def forward(
    key: TraceKey, call: Call, record: tuple[str, ...], want_state: bool
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Spikes, final states (empty unless wanted), and one sequence per name in `record`."""
    layout = call.layout()
    route = call.plan(layout)
    x = layout.bring(call.x, call.x.dtype)
    dtype = compute_dtype(x)
    out = layout.empty(x, x.dtype, call.time_steps)
    finals = [layout.empty(x, dtype) for _ in call.trace.step.states] if want_state else []
    records = [layout.empty(x, dtype, call.time_steps) for _ in record]
    starts = [layout.bring(start, dtype) for start in call.starts]
    if layout.size == 0 or call.time_steps == 0:
        for j, final in enumerate(finals):
            final.copy_(starts[j]) if starts else final.fill_(call.rest[j])
        return out, finals, records
    kernel = _forward_kernel(key, _variant(call, route, record=record))
    real = cpu.real_type(call.trace)
    none = np.empty(0, real)
    states: list[Any] = []
    for j, rest in enumerate(call.rest):
        states += [
            _flat(starts[j]) if starts else none,
            real(rest),
            _flat(finals[j]) if finals else none,
        ]
    tiles = _Tiles(route, len(call.rest), 1)
    geometry = tiles.geometry(call.time_steps)
    tail = (
        *(_flat(x), 0 if call.static else _time_stride(x, layout), _flat(out)),
        *(bool(starts), want_state),
        *states,
        *_coef_arguments(call, route),
        *(_flat(r) for r in records),
    )
    scratch_size = max(1, len(call.rest)) * tiles.stride

    def work(first: int, last: int) -> None:
        kernel(first, last, *geometry, *tail, _scratch(scratch_size, real))

    share(work, tiles.parts, layout.size * call.time_steps)
    return out, finals, records


def backward(
    key: TraceKey,
    call: Call,
    grad_spikes: Tensor | None,
    grad_finals: list[Tensor | None],
    want_x: bool,
    want_starts: bool,
    want_coefs: list[bool],
) -> tuple[Tensor | None, list[Tensor], list[Tensor | None]]:
    """Gradients of the input, the initial states (empty unless wanted), and the wanted coefs."""
    layout = call.layout()
    route = call.plan(layout)
    step = call.trace.step
    x = layout.bring(call.x, call.x.dtype)
    dtype = compute_dtype(x)
    leaves = [name for name, wanted in zip(step.coefs, want_coefs, strict=True) if wanted]
    variant = _variant(call, route, gradients=frozenset(leaves + (["x"] if want_x else [])))
    # summed over time in place, a static input's gradient needs the precision of a sum
    gx_dtype = dtype if call.static else x.dtype
    gx = layout.empty(x, gx_dtype, None if call.static else call.time_steps) if want_x else None
    grad_starts = [layout.empty(x, dtype) for _ in step.states] if want_starts else []
    tiles = _Tiles(route, len(step.states), call.time_steps)
    partial_sums: dict[str, Tensor] = {}
    partial_arguments: list[Any] = []
    for index, name in enumerate(step.coefs):
        if name not in leaves:
            continue
        times = call.coefs[index].shape[0] if route.per_time[index] else 1
        copies, width = tiles.partial_shape(index)
        part = torch.zeros((copies, times, width), dtype=torch.float64)
        partial_sums[name] = part
        partial_arguments += [part.numpy().reshape(-1), times, int(route.per_time[index]), width]
    if layout.size and call.time_steps:
        kernel = _backward_kernel(key, variant)
        real = cpu.real_type(call.trace)
        none = np.empty(0, real)
        if grad_spikes is None:
            grad_spikes = x.new_zeros(()).expand(call.whole_shape)
        g = layout.bring(grad_spikes, x.dtype)
        starts = [layout.bring(start, dtype) for start in call.starts]
        has_final = any(grad is not None for grad in grad_finals)
        finals = [
            layout.bring(
                torch.zeros((), dtype=dtype).expand(call.step_shape) if grad is None else grad,
                dtype,
            )
            for grad in grad_finals
        ]
        states: list[Any] = []
        for j, rest in enumerate(call.rest):
            states += [
                _flat(starts[j]) if starts else none,
                real(rest),
                _flat(finals[j]) if has_final else none,
                _flat(grad_starts[j]) if want_starts else none,
            ]
        geometry = tiles.geometry(call.time_steps)
        tail = (
            *(_flat(x), 0 if call.static else _time_stride(x, layout)),
            *(_flat(g), _time_stride(g, layout)),
            _flat(gx) if gx is not None else none,
            *(bool(starts), has_final, want_starts),
            *states,
            *_coef_arguments(call, route),
            *partial_arguments,
        )
        scratch_size = cpu.backward_scratch(call.trace, variant, call.time_steps) * tiles.stride

        def work(first: int, last: int) -> None:
            kernel(first, last, *geometry, *tail, _scratch(scratch_size, real))

        share(work, tiles.parts, layout.size * call.time_steps)
    elif gx is not None:
        gx.zero_()
    grad_coefs: list[Tensor | None] = [
        route.unpack(index, partial_sums[name].sum(0), tuple(call.coefs[index].shape)).to(dtype)
        if name in partial_sums
        else None
        for index, name in enumerate(step.coefs)
    ]
    return gx if gx is None else gx.to(x.dtype), grad_starts, grad_coefs


class _Tiles:
    """Blocks of neurons whose states, over `time_steps`, fit in cache; and the parts that threads
    share.

    Everything here depends on sizes alone, never on the number of threads.
    """

    def __init__(self, route: Plan, states: int, time_steps: int) -> None:
        self.route = route
        n = route.layout.size
        elements = block_elements(max(1, states), time_steps)
        if route.nest == "row":
            block = min(elements, max(1, n))
            if route.length <= block:
                block -= block % route.length
            self.block = block
            blocks = -(-n // block) if n else 0
            self.blocks = max(1, -(-blocks // GROUPS))
            self.parts = -(-blocks // self.blocks)
            self.stride = _aligned(block)
        else:
            self.wide = min(route.inner, max(256, min(elements, 1024)))
            columns = -(-route.inner // self.wide) if n else 0
            self.high = max(1, min(elements // self.wide, route.rows))
            # more shares than columns give more partial sums: only as many as there is work for
            self.shares = max(1, min(GROUPS // max(1, columns), route.rows // 16))
            self.parts = columns * self.shares
            self.stride = _aligned(self.high * self.wide)

    def geometry(self, time_steps: int) -> tuple[int, ...]:
        route, n = self.route, self.route.layout.size
        if route.nest == "row":
            return (
                *(self.blocks, self.block, self.stride, time_steps, n),
                *(route.length, route.channels),
            )
        return (
            *(self.shares, self.high, self.wide, self.stride, time_steps, n),
            *(route.rows, route.inner),
        )

    def partial_shape(self, index: int) -> tuple[int, int]:
        """Copies and width of the partial sums of one coef's gradient."""
        if self.route.is_vector(index):
            return self.shares, self.route.inner
        scalar = self.route.kinds[index] == "scalar"
        return max(1, self.parts), 1 if scalar else self.route.channels


def block_elements(states: int, time_steps: int) -> int:
    """Elements in a block: long stretches of memory for few time steps, scratch inside cache for
    many.

    Measured: few states gain up to about 2 MB of scratch while T is small; for long sequences the
    scratch must stay near the second-level cache (docs/performance.md).
    """
    budget = 500_000 if time_steps <= 32 and states <= 2 else 100_000
    fitting = budget // (states * max(1, time_steps))
    power = 1 << max(0, fitting.bit_length() - 1)
    return max(256, min(32768, power))


def _variant(
    call: Call,
    route: Plan,
    record: tuple[str, ...] = (),
    gradients: frozenset[str] = frozenset(),
) -> Variant:
    names = call.trace.step.coefs
    return Variant(
        storage=STORAGE[call.x.dtype],
        nest=route.nest,
        vectors=frozenset(name for i, name in enumerate(names) if route.is_vector(i)),
        static=call.static,
        record=record,
        gradients=gradients,
    )


def _coef_arguments(call: Call, route: Plan) -> list[Any]:
    """Array, stride over time, and stride over channels of each coef."""
    arguments: list[Any] = []
    for index, coef in enumerate(call.coefs):
        packed = route.pack(index, coef.detach())
        width = packed.numel() // (coef.shape[0] if route.per_time[index] else 1)
        arguments += [
            packed.numpy(),
            width if route.per_time[index] else 0,
            0 if route.kinds[index] == "scalar" else 1,
        ]
    return arguments


def _flat(tensor: Tensor) -> np.ndarray:
    """The memory that a tensor spans, as one array; half precision as its bits."""
    tensor = tensor.detach()
    span = 1 + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    flat = tensor.as_strided((span,), (1,))
    if tensor.dtype in (torch.bfloat16, torch.float16):
        return flat.view(torch.int16).numpy().view(np.uint16)
    return flat.numpy()


def _time_stride(tensor: Tensor, layout: Layout) -> int:
    return tensor.stride(0) if tensor.shape[0] > 1 else layout.size


def _aligned(elements: int) -> int:
    """Rounded up to whole 64-byte lines: a split line costs every vector access twice."""
    return -(-elements // 16) * 16


_local = threading.local()


def _scratch(size: int, real: type[np.floating]) -> np.ndarray:
    """This thread's scratch memory, kept between calls; allocated by torch, which aligns it."""
    kept: dict[type[np.floating], np.ndarray] = _local.__dict__.setdefault("scratch", {})
    if real not in kept or kept[real].size < size:
        dtype = torch.float64 if real is np.float64 else torch.float32
        kept[real] = torch.empty(size, dtype=dtype).numpy()
    return kept[real]
