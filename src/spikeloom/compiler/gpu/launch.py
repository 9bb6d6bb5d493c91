"""From tensors to kernel launches on a GPU: variants and arguments.

Nothing here waits for the device, so that a launch can be captured in a CUDA graph.
"""

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikeloom.compiler import cache as kernel_cache
from spikeloom.compiler.front.trace import Trace
from spikeloom.compiler.gpu.backward import backward_source
from spikeloom.compiler.gpu.forward import forward_source
from spikeloom.compiler.gpu.plan import (
    BackwardCut,
    Grid,
    Machine,
    backward_cut,
    forward_grid,
    machine,
)
from spikeloom.compiler.gpu.writer import Variant
from spikeloom.compiler.plan.bound import BoundKernel, Part
from spikeloom.compiler.plan.call import Form

WIDE = 1 << 31
"""Neurons of a time step from which their numbers need 64 bits."""


def kernel_text(trace: Trace, dtype: torch.dtype) -> str:
    """Both kernels of a step whose coefs are per layer, the backward one for a long sequence.

    They are the same for every `dtype` that computes in the precision of the trace.
    """
    rest = (0.0,) * len(trace.signature.states)
    gradients = frozenset(("x", *trace.signature.coefs))
    forward = Variant("row", rest, flat=True)
    backward = Variant("row", rest, flat=True, gradients=gradients)
    return "\n\n".join((forward_source(trace, forward), backward_source(trace, backward)))


@dataclass(frozen=True)
class GpuLaunch:
    """A kernel, and what it is started with; `fixed` are the arguments that do not change.

    `moving`: of each tensor that a backward kernel walks through time in segments, its elements
    from step to step, None for `g`, which a call brings along; `steps` are those of a segment.
    """

    kernel: Any
    programs: int
    warps: int
    device: torch.device
    names: tuple[str, ...]
    fixed: dict[str, Any]
    parts: tuple[Part, ...] = ()
    moving: tuple[tuple[str, int | None], ...] = ()
    steps: int = 1
    dtype: torch.dtype = torch.float32

    def arguments(self, tensors: Iterable[Tensor], g_time: int) -> dict[str, Any]:
        """All arguments of the kernel."""
        arguments = self.fixed | dict(zip(self.names, tensors, strict=True))
        if "g" in arguments:
            arguments["g_time"] = g_time
        for name, stride in self.moving:
            jump = self.steps * (g_time if stride is None else stride)
            arguments[f"{name}_jump"] = jump
            arguments[f"{name}_last"] = (arguments["segments"] - 1) * jump
        if "program_notes" in self.fixed:
            size = self.programs * self.fixed["program_notes"]
            arguments["scratch"] = torch.empty(size, dtype=self.dtype, device=self.device)
        return arguments

    def run(self, tensors: Iterable[Tensor], g_time: int) -> None:
        arguments = self.arguments(tensors, g_time)
        device = self.device
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            self.kernel[(self.programs,)](**arguments, num_warps=self.warps, enable_fp_fusion=False)


class GpuKernel(BoundKernel):
    """A bound kernel of Triton. `on`: the machine that it is cut for, that of the form's device if
    it is not given."""

    def __init__(self, trace: Trace, form: Form, on: Machine | None = None) -> None:
        super().__init__(trace, form)
        self.on = machine(form.device.index) if on is None else on
        self.sum_dtype = self.dtype

    def launch_forward(self, record: tuple[str, ...], want_state: bool, started: bool) -> GpuLaunch:
        variant = Variant(**self._common(started), finals=want_state, record=record)
        grid = forward_grid(self.plan, self.on)
        return GpuLaunch(
            kernel_cache.function(forward_source, "run_forward", self.trace, variant),
            grid.tiles,
            grid.tile.warps,
            self.form.device,
            self._arrays(self.forward_names(record, want_state, started)),
            self._fixed(grid, variant),
        )

    def launch_backward(
        self, started: bool, ended: bool, want_x: bool, want_coefs: tuple[bool, ...]
    ) -> GpuLaunch:
        plan, form, names = self.plan, self.form, self.trace.signature.coefs
        leaves = tuple(name for name, want in zip(names, want_coefs, strict=True) if want)
        cut = backward_cut(self.trace, plan, leaves, form.time_steps, self.on)
        variant = Variant(
            **self._common(started),
            gradients=frozenset(leaves + (("x",) if want_x else ())),
            grad_finals=ended,
            grad_starts=started,
            K=cut.K,
            whole=cut.whole,
            ragged=form.time_steps % cut.K != 0,
        )
        fixed = self._fixed(cut.grid, variant)
        fixed |= {"programs": cut.programs} if plan.nest == "row" else {"shares": cut.shares}
        moving: list[tuple[str, int | None]] = []
        if not cut.whole:
            notes = cut.segments * len(self.states) * cut.grid.tile.neurons
            fixed |= {"segments": cut.segments, "program_notes": notes}
            moving = [("g", None)]
            if not form.static:
                moving += [("x", self.x_time), *[("gx", self.layout.size)] * want_x]
        return GpuLaunch(
            kernel_cache.function(backward_source, "run_backward", self.trace, variant),
            cut.programs,
            cut.grid.tile.warps,
            form.device,
            self._arrays(self.backward_names(started, ended, want_x, want_coefs)),
            fixed,
            tuple(self._part(cut, i) for i, want in enumerate(want_coefs) if want),
            tuple(moving),
            cut.K,
            self.dtype,
        )

    def _arrays(self, names: list[str]) -> tuple[str, ...]:
        """The arguments of these names: a coef is read at a place of its own."""
        return tuple(f"{name}at" if name in self.coefs else name for name in names)

    def _part(self, cut: BackwardCut, index: int) -> Part:
        """What tiles (row nest), shares, or programs add to the gradient of a coef."""
        plan, grid = self.plan, cut.grid
        times = self.form.time_steps if plan.per_time[index] else 1
        if plan.nest == "row" and plan.kinds[index] != "scalar":
            return Part((grid.along, grid.across, times), turned=True)  # tiles, channel by channel
        if plan.nest == "row":
            return Part((grid.tiles, times, 1))
        if plan.is_vector(index):
            return Part((cut.shares, times, plan.inner))
        return Part((cut.programs, times, 1))

    def _common(self, started: bool) -> dict[str, Any]:
        """What both kernels are specialised for."""
        plan = self.plan
        return {
            "nest": plan.nest,
            "rest": self.form.rest,
            "flat": plan.nest == "row" and plan.channels == 1,
            "quads": plan.length % 16 != 0 and plan.length % 4 == 0,
            "wide": plan.layout.size >= WIDE,
            "vectors": self.vectors,
            "static": self.form.static,
            "starts": started,
        }

    def _fixed(self, grid: Grid, variant: Variant) -> dict[str, Any]:
        """The walk, and of each coef its width where it changes over time and its stride over
        channels."""
        plan = self.plan
        fixed: dict[str, Any] = {"T": self.form.time_steps} | grid.arguments(plan)
        if not self.form.static:
            fixed["x_time"] = self.x_time
        for index, var in enumerate(self.coefs):
            if plan.per_time[index]:
                fixed[f"{var}width"] = plan.width(index)
            if plan.nest == "row" and not variant.flat:
                fixed[f"{var}channel"] = 0 if plan.kinds[index] == "scalar" else 1
        return fixed


bind = GpuKernel
