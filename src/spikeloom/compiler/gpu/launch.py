"""From tensors to kernel launches on a GPU: variants, arguments, and the sums of coef gradients.

Nothing here waits for the device, so that a launch can be captured in a CUDA graph.
"""

import math
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from spikeloom.compiler import cache as kernel_cache
from spikeloom.compiler import emit
from spikeloom.compiler.front.step import compute_dtype
from spikeloom.compiler.front.trace import Trace
from spikeloom.compiler.gpu.backward import BackwardVariant, backward_source
from spikeloom.compiler.gpu.forward import ForwardVariant, forward_source
from spikeloom.compiler.gpu.plan import BackwardCut, Machine, backward_cut, forward_grid, machine
from spikeloom.compiler.plan.buffers import BackwardBuffers, ForwardBuffers
from spikeloom.compiler.plan.call import Call, Form, TraceKey
from spikeloom.compiler.plan.geometry import Plan, find_plan

WIDE = 1 << 31
"""Neurons of a time step from which their numbers need 64 bits."""

_plan = cache(find_plan)


@cache
def _forward_kernel(key: TraceKey, variant: ForwardVariant) -> Any:
    return kernel_cache.load(forward_source(key.trace, variant)).run_forward


@cache
def _backward_kernel(key: TraceKey, variant: BackwardVariant) -> Any:
    return kernel_cache.load(backward_source(key.trace, variant)).run_backward


def kernel_text(trace: Trace, dtype: torch.dtype) -> str:
    """Both kernels of a step whose coefs are per layer, the backward one for a long sequence.

    They are the same for every `dtype` that computes in the precision of the trace.
    """
    rest = (0.0,) * len(trace.signature.states)
    timed = frozenset(trace.signature.time_coefs)
    gradients = frozenset(("x", *trace.signature.coefs))
    forward = ForwardVariant("row", rest, flat=True, timed=timed)
    backward = BackwardVariant("row", rest, flat=True, timed=timed, gradients=gradients)
    return "\n\n".join((forward_source(trace, forward), backward_source(trace, backward)))


@dataclass(frozen=True)
class Launch:
    """A kernel, and what it is started with."""

    kernel: Any
    programs: int
    warps: int
    arguments: dict[str, Any]

    @property
    def neurons(self) -> int:
        """Neurons of a tile."""
        return math.prod(self.arguments.get(size, 1) for size in ("BLOCK", "ROWS", "COLS"))

    def run(self, device: torch.device) -> None:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            self.kernel[(self.programs,)](
                **self.arguments, num_warps=self.warps, enable_fp_fusion=False
            )


def prepare_forward(
    call: Call, record: tuple[str, ...], want_state: bool, on: Machine
) -> tuple[Launch | None, tuple[Tensor, list[Tensor], list[Tensor]]]:
    """The launch (None if there is nothing to compute), and the results that it will fill."""
    plan = _plan(*call.form.walk(call.trace.signature))
    layout = plan.layout
    buffers = ForwardBuffers.of(call, layout, record, want_state)
    if call.empty:
        return None, buffers.results
    variant = ForwardVariant(**_common(call, plan), finals=want_state, record=record)
    grid = forward_grid(plan, on)
    own = emit.state_names(call.trace.signature.states)
    arguments: dict[str, Any] = {"x": buffers.x, "out": buffers.out, "T": call.time_steps}
    if not call.static:
        arguments["x_time"] = _time_stride(buffers.x, layout.size)
    arguments |= grid.arguments(plan)
    arguments |= {f"{name}start": start for name, start in zip(own, buffers.starts, strict=False)}
    arguments |= {f"{name}final": final for name, final in zip(own, buffers.finals, strict=False)}
    arguments |= _coef_arguments(call, plan, variant)
    arguments |= {f"record_{name}_": to for name, to in zip(record, buffers.records, strict=True)}
    kernel = _forward_kernel(call.key, variant)
    return Launch(kernel, grid.tiles, grid.tile.warps, arguments), buffers.results


class Bound:
    """See `target.BoundKernel`."""

    def __init__(self, key: TraceKey, form: Form) -> None:
        self.key, self.form = key, form
        self.on = machine(form.device.index)

    def forward(
        self,
        x: Tensor,
        starts: list[Tensor],
        coefs: list[Tensor],
        record: tuple[str, ...],
        want_state: bool,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        call = Call(self.key, self.form, x, starts, coefs)
        launch, results = prepare_forward(call, record, want_state, self.on)
        if launch is not None:
            launch.run(x.device)
        return results

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
        call = Call(self.key, self.form, x, starts, coefs)
        launch, results = prepare_backward(
            call, grad_spikes, grad_finals, want_x, bool(starts), want_coefs, self.on
        )
        if launch is not None:
            launch.run(x.device)
        gx = None if results.gx is None else results.gx.to(x.dtype)
        dtype = compute_dtype(x)
        grads = [None if sums is None else sums.added_up().to(dtype) for sums in results.coefs]
        return gx, results.starts, grads


bind = Bound


@dataclass(frozen=True)
class PartialSums:
    """What tiles (row nest), shares, or programs have added to the gradient of a coef."""

    call: Call
    plan: Plan
    cut: BackwardCut
    index: int
    parts: Tensor

    @staticmethod
    def buffers(call: Call, plan: Plan, cut: BackwardCut, index: int) -> "PartialSums":
        times = call.time_steps if plan.per_time[index] else 1
        if plan.nest == "row":
            shape: tuple[int, ...] = (cut.grid.tiles, times)
        elif plan.is_vector(index):
            shape = (cut.shares, times, plan.inner)
        else:
            shape = (cut.programs, times)
        parts = torch.zeros(shape, dtype=compute_dtype(call.x), device=call.x.device)
        return PartialSums(call, plan, cut, index, parts)

    def added_up(self) -> Tensor:
        """The gradient of the coef: the sums, added in a fixed order in float64."""
        plan, grid, parts = self.plan, self.cut.grid, self.parts
        if plan.nest == "row" and plan.kinds[self.index] != "scalar":
            # tiles lie channel by channel: [along, channels, T] -> [T, channels]
            parts = parts.view(grid.along, grid.across, parts.shape[1])
            parts = parts.sum(0, dtype=torch.float64).t()
        else:
            parts = parts.sum(0, dtype=torch.float64)
            if not plan.is_vector(self.index):
                parts = parts.unsqueeze(1)
        return plan.unpack(self.index, parts, tuple(self.call.coefs[self.index].shape))


@dataclass(frozen=True)
class Gradients:
    """What a backward launch fills."""

    gx: Tensor | None
    starts: list[Tensor]
    coefs: list[PartialSums | None]


def prepare_backward(
    call: Call,
    grad_spikes: Tensor,
    grad_finals: list[Tensor],
    want_x: bool,
    want_starts: bool,
    want_coefs: list[bool],
    on: Machine,
) -> tuple[Launch | None, Gradients]:
    """The launch (None if there is nothing to compute), and the results that it will fill."""
    plan = _plan(*call.form.walk(call.trace.signature))
    layout, signature = plan.layout, call.trace.signature
    buffers = BackwardBuffers.of(call, layout, grad_finals, want_x, want_starts)
    x, gx, grad_starts = buffers.x, buffers.gx, buffers.grad_starts
    dtype = compute_dtype(x)
    leaves = tuple(n for n, wanted in zip(signature.coefs, want_coefs, strict=True) if wanted)
    cut = backward_cut(call.key, plan, leaves, max(1, call.time_steps), on)
    sums = [
        PartialSums.buffers(call, plan, cut, index) if wanted else None
        for index, wanted in enumerate(want_coefs)
    ]
    results = Gradients(gx, grad_starts, sums)
    if call.empty:
        return None, results
    variant = BackwardVariant(
        **_common(call, plan),
        gradients=frozenset(leaves + (("x",) if want_x else ())),
        grad_finals=bool(grad_finals),
        grad_starts=want_starts,
        K=cut.K,
        whole=cut.whole,
        ragged=call.time_steps % cut.K != 0,
    )
    g = layout.bring(grad_spikes, x.dtype)
    own = emit.state_names(signature.states)
    arguments: dict[str, Any] = {"x": x, "g": g, "T": call.time_steps}
    arguments |= _time_arguments(call, cut, x, g, gx, layout.size)
    arguments |= cut.grid.arguments(plan)
    arguments |= {"programs": cut.programs} if plan.nest == "row" else {"shares": cut.shares}
    if not cut.whole:
        notes = cut.segments * len(signature.states) * cut.grid.tile.neurons
        arguments["scratch"] = torch.empty(cut.programs * notes, dtype=dtype, device=x.device)
        arguments["program_notes"] = notes
    if call.starts:
        starts = [layout.bring(start, dtype) for start in call.starts]
        arguments |= {f"{name}start": start for name, start in zip(own, starts, strict=True)}
    if grad_finals:
        finals = [layout.bring(grad, dtype) for grad in grad_finals]
        arguments |= {f"{name}grad_final": grad for name, grad in zip(own, finals, strict=True)}
    if want_starts:
        arguments |= {
            f"{name}grad_start": grad for name, grad in zip(own, grad_starts, strict=True)
        }
    arguments |= _coef_arguments(call, plan, variant)
    coefs = zip(emit.coef_names(signature.coefs), sums, strict=True)
    arguments |= {f"part_{name}": found.parts for name, found in coefs if found is not None}
    kernel = _backward_kernel(call.key, variant)
    return Launch(kernel, cut.programs, cut.grid.tile.warps, arguments), results


def _common(call: Call, plan: Plan) -> dict[str, Any]:
    """What both kernels are specialised for."""
    names = call.trace.signature.coefs
    return {
        "nest": plan.nest,
        "rest": call.rest,
        "flat": plan.nest == "row" and plan.channels == 1,
        "quads": plan.length % 16 != 0 and plan.length % 4 == 0,
        "wide": plan.layout.size >= WIDE,
        "vectors": frozenset(name for i, name in enumerate(names) if plan.is_vector(i)),
        "timed": frozenset(name for i, name in enumerate(names) if plan.per_time[i]),
        "static": call.static,
        "starts": bool(call.starts),
    }


def _coef_arguments(
    call: Call, plan: Plan, variant: ForwardVariant | BackwardVariant
) -> dict[str, Any]:
    """Each coef, its width where it changes over time, its stride over channels."""
    names = emit.coef_names(call.trace.signature.coefs)
    found: dict[str, Any] = {}
    for index, (own, coef) in enumerate(zip(names, call.coefs, strict=True)):
        packed = plan.pack(index, coef.detach())
        found[f"{own}at"] = packed
        if plan.per_time[index]:
            found[f"{own}width"] = packed.numel() // coef.shape[0]
        if plan.nest == "row" and not variant.flat:
            found[f"{own}channel"] = 0 if plan.kinds[index] == "scalar" else 1
    return found


def _time_arguments(
    call: Call, cut: BackwardCut, x: Tensor, g: Tensor, gx: Tensor | None, size: int
) -> dict[str, Any]:
    """Where the time steps lie, and how far it is from a segment to the one before."""
    found: dict[str, Any] = {"g_time": _time_stride(g, size)}
    strides = {"g": found["g_time"]}
    if not call.static:
        found["x_time"] = strides["x"] = _time_stride(x, size)
    if gx is not None:
        found["gx"] = gx
        if not call.static:
            strides["gx"] = size
    if not cut.whole:
        found["segments"] = cut.segments
        for name, stride in strides.items():
            found[f"{name}_jump"] = cut.K * stride
            found[f"{name}_last"] = (cut.segments - 1) * cut.K * stride
    return found


def _time_stride(tensor: Tensor, size: int) -> int:
    return tensor.stride(0) if tensor.shape[0] > 1 else size
