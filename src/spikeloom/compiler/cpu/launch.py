"""From tensors to kernel calls on the CPU: arguments, scratch, and the sums of coef gradients."""

import threading
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeloom.compiler import cache as kernel_cache
from spikeloom.compiler.cpu.backward import backward_scratch, backward_source
from spikeloom.compiler.cpu.forward import forward_source
from spikeloom.compiler.cpu.plan import Route, find_route
from spikeloom.compiler.cpu.threads import share
from spikeloom.compiler.cpu.writer import Storage, Variant
from spikeloom.compiler.eager import compute_dtype
from spikeloom.compiler.front.trace import Trace
from spikeloom.compiler.plan.buffers import BackwardRoom, ForwardRoom
from spikeloom.compiler.plan.call import Call, TraceKey
from spikeloom.compiler.plan.geometry import Layout

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


def forward(
    call: Call, record: tuple[str, ...], want_state: bool
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Spikes, final states (empty unless wanted), and one sequence per name in `record`."""
    route = find_route(*call.shapes())
    layout, tiles = route.layout, route.forward
    room = ForwardRoom.of(call, layout, record, want_state)
    if call.empty:
        return room.results
    x, starts, finals = room.x, room.starts, room.finals
    kernel = _forward_kernel(call.key, _variant(call, route, record=record))
    real = _real(call.trace)
    none = np.empty(0, real)
    states: list[Any] = []
    for j, rest in enumerate(call.rest):
        states += [
            _flat(starts[j]) if starts else none,
            real(rest),
            _flat(finals[j]) if finals else none,
        ]
    arguments = (
        *tiles.geometry(call.time_steps),
        *(_flat(x), 0 if call.static else _time_stride(x, layout), _flat(room.out)),
        *(bool(starts), want_state),
        *states,
        *_coef_arguments(call, route),
        *(_flat(r) for r in room.records),
    )
    scratch_size = max(1, len(call.rest)) * tiles.stride

    def work(first: int, last: int) -> None:
        kernel(first, last, *arguments, _scratch(scratch_size, real))

    share(work, tiles.parts, layout.size * call.time_steps)
    return room.results


def backward(
    call: Call,
    grad_spikes: Tensor,
    grad_finals: list[Tensor],
    want_x: bool,
    want_starts: bool,
    want_coefs: list[bool],
) -> tuple[Tensor | None, list[Tensor], list[Tensor | None]]:
    """Gradients of the input, the initial states (empty unless wanted), and the wanted coefs.

    `grad_finals` is empty where no gradient comes from the final states.
    """
    route = find_route(*call.shapes())
    layout, plan, tiles = route.layout, route.plan, route.backward
    signature = call.trace.signature
    room = BackwardRoom.of(call, layout, grad_finals, want_x, want_starts)
    x, gx, grad_starts = room.x, room.gx, room.grad_starts
    dtype = compute_dtype(x)
    leaves = [name for name, wanted in zip(signature.coefs, want_coefs, strict=True) if wanted]
    if call.empty:
        zeros = [
            torch.zeros_like(coef, dtype=dtype) if wanted else None
            for coef, wanted in zip(call.coefs, want_coefs, strict=True)
        ]
        return None if gx is None else gx.to(x.dtype), grad_starts, zeros
    partial_sums: dict[str, Tensor] = {}
    partial_arguments: list[Any] = []
    for index, name in enumerate(signature.coefs):
        if name not in leaves:
            continue
        times = call.coefs[index].shape[0] if plan.per_time[index] else 1
        copies, width = tiles.partial_shape(index)
        part = torch.zeros((copies, times, width), dtype=torch.float64)
        partial_sums[name] = part
        partial_arguments += [part.numpy().reshape(-1), times, int(plan.per_time[index]), width]
    variant = _variant(call, route, gradients=frozenset(leaves + (["x"] if want_x else [])))
    kernel = _backward_kernel(call.key, variant)
    real = _real(call.trace)
    none = np.empty(0, real)
    g = layout.bring(grad_spikes, x.dtype)
    starts = [layout.bring(start, dtype) for start in call.starts]
    finals = [layout.bring(grad, dtype) for grad in grad_finals]
    states: list[Any] = []
    for j, rest in enumerate(call.rest):
        states += [
            _flat(starts[j]) if starts else none,
            real(rest),
            _flat(finals[j]) if finals else none,
            _flat(grad_starts[j]) if want_starts else none,
        ]
    arguments = (
        *tiles.geometry(call.time_steps),
        *(_flat(x), 0 if call.static else _time_stride(x, layout)),
        *(_flat(g), _time_stride(g, layout)),
        none if gx is None else _flat(gx),
        *(bool(starts), bool(finals), want_starts),
        *states,
        *_coef_arguments(call, route),
        *partial_arguments,
    )
    scratch_size = backward_scratch(call.trace, variant, call.time_steps) * tiles.stride

    def work(first: int, last: int) -> None:
        kernel(first, last, *arguments, _scratch(scratch_size, real))

    share(work, tiles.parts, layout.size * call.time_steps)
    grad_coefs = [
        plan.unpack(index, partial_sums[name].sum(0), tuple(call.coefs[index].shape)).to(dtype)
        if name in partial_sums
        else None
        for index, name in enumerate(signature.coefs)
    ]
    return None if gx is None else gx.to(x.dtype), grad_starts, grad_coefs


def _variant(
    call: Call,
    route: Route,
    record: tuple[str, ...] = (),
    gradients: frozenset[str] = frozenset(),
) -> Variant:
    names = call.trace.signature.coefs
    return Variant(
        storage=STORAGE[call.x.dtype],
        nest=route.plan.nest,
        vectors=frozenset(name for i, name in enumerate(names) if route.plan.is_vector(i)),
        static=call.static,
        record=record,
        gradients=gradients,
    )


def _coef_arguments(call: Call, route: Route) -> list[Any]:
    """Array, stride over time, and stride over channels of each coef."""
    plan = route.plan
    arguments: list[Any] = []
    for index, coef in enumerate(call.coefs):
        packed = plan.pack(index, coef.detach())
        width = packed.numel() // (coef.shape[0] if plan.per_time[index] else 1)
        arguments += [
            packed.numpy(),
            width if plan.per_time[index] else 0,
            0 if plan.kinds[index] == "scalar" else 1,
        ]
    return arguments


def _flat(tensor: Tensor) -> np.ndarray:
    """The memory that a tensor spans, as one array; half precision as its bits."""
    tensor = tensor.detach()
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    flat = tensor.as_strided((1 + sum((size - 1) * stride for size, stride in sizes),), (1,))
    if tensor.dtype in (torch.bfloat16, torch.float16):
        return flat.view(torch.int16).numpy().view(np.uint16)
    return flat.numpy()


def _time_stride(tensor: Tensor, layout: Layout) -> int:
    return tensor.stride(0) if tensor.shape[0] > 1 else layout.size


_local = threading.local()


def _scratch(size: int, real: type[np.floating]) -> np.ndarray:
    """This thread's scratch memory, kept between calls; allocated by torch, which aligns it."""
    kept: dict[type[np.floating], np.ndarray] = _local.__dict__.setdefault("scratch", {})
    if real not in kept or kept[real].size < size:
        dtype = torch.float64 if real is np.float64 else torch.float32
        kept[real] = torch.empty(size, dtype=dtype).numpy()
    return kept[real]


def _real(trace: Trace) -> type[np.floating]:
    """The numpy type of states and sums."""
    return np.float64 if trace.double else np.float32
