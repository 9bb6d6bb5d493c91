"""The compiled step as PyTorch operators, with autograd.

    spikeloom::steps(program, x, starts, coefs, ...)      -> [spikes, *final states, *records]
    spikeloom::steps_backward(program, grads, x, ...)     -> [grad x, *grad starts, *grad coefs]

Library operators, and not kernel calls inside an autograd.Function: `torch.compile` keeps them
whole. What is saved for backward is `x` (alive anyway), the coefs, and the initial states if given.
"""

from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from spikeloom.compiler import cache
from spikeloom.compiler.constant import repeated_step
from spikeloom.compiler.eager import compute_dtype
from spikeloom.compiler.front.step import Target
from spikeloom.compiler.plan.call import Call, TraceKey

_programs: dict[str, tuple[TraceKey, ModuleType]] = {}
"""A traced step by its name, and the module that launches its kernels."""

_library = torch.library.Library("spikeloom", "DEF")
_library.define(
    "steps(str program, Tensor x, Tensor[] starts, Tensor[] coefs, SymInt time_steps, bool static, "
    "float[] rest, str record, bool want_state) -> Tensor[]"
)
_library.define(
    "steps_backward(str program, Tensor grad_spikes, Tensor[] grad_finals, Tensor x, "
    "Tensor[] starts, Tensor[] coefs, SymInt time_steps, bool static, float[] rest, "
    "bool want_x, bool[] want_coefs) -> Tensor[]"
)


def register(key: TraceKey, target: Target) -> str:
    """A name for a traced step by which the operators find it; equal steps share one."""
    name = f"{target}:{key.trace.signature.name}:{cache.key(key.text)}"
    _programs.setdefault(name, (key, import_module(f"spikeloom.compiler.{target}.launch")))
    return name


def trace_of(program: str) -> TraceKey:
    return _programs[program][0]


def _names(record: str) -> tuple[str, ...]:
    return tuple(record.split(",")) if record else ()


def _steps(
    program: str,
    x: Tensor,
    starts: list[Tensor],
    coefs: list[Tensor],
    time_steps: int,
    static: bool,
    rest: list[float],
    record: str,
    want_state: bool,
) -> list[Tensor]:
    key, launch = _programs[program]
    call = Call(key, x, list(starts), list(coefs), time_steps, static, list(rest))
    spikes, finals, records = launch.forward(call, _names(record), want_state)
    return [spikes, *finals, *records]


def _steps_backward(
    program: str,
    grad_spikes: Tensor,
    grad_finals: list[Tensor],
    x: Tensor,
    starts: list[Tensor],
    coefs: list[Tensor],
    time_steps: int,
    static: bool,
    rest: list[float],
    want_x: bool,
    want_coefs: list[bool],
) -> list[Tensor]:
    key, launch = _programs[program]
    call = Call(key, x, list(starts), list(coefs), time_steps, static, list(rest))
    gx, grad_starts, grad_coefs = launch.backward(
        call, grad_spikes, list(grad_finals), want_x, bool(starts), list(want_coefs)
    )
    return [
        x.new_empty(0) if gx is None else gx,
        *grad_starts,
        *(x.new_empty(0) if grad is None else grad for grad in grad_coefs),
    ]


def _steps_fake(
    program: str,
    x: Tensor,
    starts: list[Tensor],
    coefs: list[Tensor],
    time_steps: int,
    static: bool,
    rest: list[float],
    record: str,
    want_state: bool,
) -> list[Tensor]:
    one = x if static else x.new_empty_strided(x.shape[1:], x.stride()[1:])
    spikes = one.unsqueeze(0).expand(time_steps, *one.shape) if static else x
    dtype = compute_dtype(x)
    whole = torch.empty_like(one, memory_format=torch.preserve_format)
    whole = whole.new_empty_strided(
        (time_steps, *one.shape), (one.numel(), *whole.stride()), dtype=spikes.dtype
    )
    finals = [torch.empty_like(one, dtype=dtype) for _ in rest] if want_state else []
    return [whole, *finals, *(torch.empty_like(whole, dtype=dtype) for _ in _names(record))]


def _steps_backward_fake(
    program: str,
    grad_spikes: Tensor,
    grad_finals: list[Tensor],
    x: Tensor,
    starts: list[Tensor],
    coefs: list[Tensor],
    time_steps: int,
    static: bool,
    rest: list[float],
    want_x: bool,
    want_coefs: list[bool],
) -> list[Tensor]:
    return [
        torch.empty_like(x) if want_x else x.new_empty(0),
        *(torch.empty_like(start) for start in starts),
        *(
            torch.empty_like(coef, memory_format=torch.contiguous_format)
            if wanted
            else x.new_empty(0)
            for coef, wanted in zip(coefs, want_coefs, strict=True)
        ),
    ]


class _Steps(torch.autograd.Function):
    """Joins the two operators. Tensors come flat, the initial states before the coefs: autograd
    does not look into lists, and registering a formula for operators on lists costs 60 us a
    call.
    """

    @staticmethod
    def forward(
        ctx: Any,
        program: str,
        x: Tensor,
        time_steps: int,
        static: bool,
        rest: list[float],
        record: str,
        want_state: bool,
        start_count: int,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        starts, coefs = list(tensors[:start_count]), list(tensors[start_count:])
        ctx.save_for_backward(x, *tensors)
        ctx.program, ctx.time_steps, ctx.static, ctx.rest = program, time_steps, static, rest
        ctx.start_count = start_count
        ctx.finals = len(rest) if want_state else 0
        ctx.set_materialize_grads(False)
        outputs = torch.ops.spikeloom.steps(
            program, x, starts, coefs, time_steps, static, rest, record, want_state
        )
        ctx.mark_non_differentiable(*outputs[1 + ctx.finals :])
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        x, *tensors = ctx.saved_tensors
        starts, coefs = tensors[: ctx.start_count], tensors[ctx.start_count :]
        step_shape = x.shape if ctx.static else x.shape[1:]
        grad_spikes = grads[0]
        if grad_spikes is None:
            grad_spikes = x.new_zeros(()).expand(ctx.time_steps, *step_shape)
        finals = grads[1 : 1 + ctx.finals]
        grad_finals = []
        if any(grad is not None for grad in finals):
            zero = torch.zeros((), dtype=compute_dtype(x), device=x.device)
            grad_finals = [zero.expand(step_shape) if grad is None else grad for grad in finals]
        want_x, want_coefs = ctx.needs_input_grad[1], list(ctx.needs_input_grad[8 + len(starts) :])
        results = torch.ops.spikeloom.steps_backward(
            ctx.program,
            grad_spikes,
            grad_finals,
            x,
            starts,
            coefs,
            ctx.time_steps,
            ctx.static,
            ctx.rest,
            want_x,
            want_coefs,
        )
        if torch.is_grad_enabled():
            results = _NoSecondDerivative.apply(len(results), *results, grad_spikes, x, *coefs)
        gx, *others = results
        wanted = [True] * len(starts) + want_coefs
        others = [grad if keep else None for grad, keep in zip(others, wanted, strict=True)]
        return (None, gx if want_x else None, *[None] * 6, *others)


class _NoSecondDerivative(torch.autograd.Function):
    """The identity on gradients, which refuses to be differentiated."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.view_as(tensor) for tensor in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError(
            "a compiled neuron has no second derivative: build the neuron with backend='eager' "
            "to differentiate its gradient"
        )


for _device in ("CPU", "CUDA"):
    _library.impl("steps", _steps, _device)
    _library.impl("steps_backward", _steps_backward, _device)
torch.library.register_fake("spikeloom::steps", _steps_fake, lib=_library)
torch.library.register_fake("spikeloom::steps_backward", _steps_backward_fake, lib=_library)


def run_compiled(
    program: str,
    x: Tensor,
    starts: tuple[Tensor, ...] | None,
    coefs: list[Tensor],
    rest: tuple[float, ...],
    record: tuple[str, ...],
    want_state: bool,
) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
    """Spikes, final states (empty unless wanted) and records, by the compiled kernel.

    A current that is constant over time (stride 0) enters the operator as one time step, so that
    its gradient is one time step too.
    """
    dtype = compute_dtype(x)
    time_steps = x.shape[0]
    static = time_steps > 1 and x.stride(0) == 0
    initial = [] if starts is None else [start.to(dtype) for start in starts]
    spikes, *others = _Steps.apply(
        program,
        repeated_step(x) if static else x,
        time_steps,
        static,
        list(rest),
        ",".join(record),
        want_state,
        len(initial),
        *initial,
        *(coef.to(dtype) for coef in coefs),
    )
    finals = others[: len(rest)] if want_state else []
    return spikes, finals, dict(zip(record, others[len(finals) :], strict=True))
