"""The compiled step as operators of PyTorch, for whoever looks at calls: `torch.compile`,
profilers.

    spikeloom::steps(program, x, starts, coefs, ...)      -> [spikes, *final states, *records]
    spikeloom::steps_backward(program, x, ..., grads)     -> [grad x, *grad starts, *grad coefs]

What a kernel gives is brought into the strides that the fakes promise; they follow from the input
alone, so that they hold for sizes that are not known yet.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikeloom.compiler.front.step import compute_dtype
from spikeloom.compiler.function import NoSecondDerivative, cotangents, program
from spikeloom.compiler.plan.call import Form

_library = torch.library.Library("spikeloom", "FRAGMENT")
# Programs that were exported hold calls of these: their arguments stay, also `static`, which the
# library's own calls leave False.
_library.define(
    "steps(str program, Tensor x, Tensor[] starts, Tensor[] coefs, SymInt time_steps, bool static, "
    "float[] rest, str record, bool want_state) -> Tensor[]"
)
_library.define(
    "steps_backward(str program, Tensor grad_spikes, Tensor[] grad_finals, Tensor x, "
    "Tensor[] starts, Tensor[] coefs, SymInt time_steps, bool static, float[] rest, "
    "bool want_x, bool[] want_coefs) -> Tensor[]"
)


def _names(record: str) -> tuple[str, ...]:
    return tuple(record.split(",")) if record else ()


def _step_like(x: Tensor, static: bool, dtype: torch.dtype) -> Tensor:
    """An empty time step `[B, ...]`, in the memory order of the input's."""
    step = x if static else x.new_empty_strided(x.shape[1:], x.stride()[1:])
    return torch.empty_like(step, dtype=dtype)


def _whole_like(x: Tensor, time_steps: int, static: bool, dtype: torch.dtype) -> Tensor:
    """An empty sequence `[T, B, ...]` of such steps, one after the other."""
    step = _step_like(x, static, dtype)
    strides = (step.numel(), *step.stride())
    return x.new_empty_strided((time_steps, *step.shape), strides, dtype=dtype)


def _promised(
    x: Tensor, time_steps: int, static: bool, rest: Sequence[float], record: str, want_state: bool
) -> list[Tensor]:
    """What `steps` gives, uninitialised: spikes, final states, records."""
    dtype = compute_dtype(x)
    return [
        _whole_like(x, time_steps, static, x.dtype),
        *(_step_like(x, static, dtype) for _ in rest if want_state),
        *(_whole_like(x, time_steps, static, dtype) for _ in _names(record)),
    ]


def _promised_gradients(
    x: Tensor,
    starts: list[Tensor],
    coefs: list[Tensor],
    time_steps: int,
    static: bool,
    want_x: bool,
    want_coefs: list[bool],
) -> list[Tensor]:
    """What `steps_backward` gives, uninitialised; no elements for what is not wanted."""
    gx = x.new_empty(0)
    if want_x:
        gx = _step_like(x, True, x.dtype) if static else _whole_like(x, time_steps, False, x.dtype)
    return [
        gx,
        *(_step_like(x, static, compute_dtype(x)) for _ in starts),
        *(
            torch.empty_like(coef, memory_format=torch.contiguous_format)
            if want
            else x.new_empty(0)
            for coef, want in zip(coefs, want_coefs, strict=True)
        ),
    ]


def _as_promised(results: Sequence[Tensor | None], promised: list[Tensor]) -> list[Tensor]:
    """The results in the strides that were promised for them."""
    return [
        promise
        if result is None
        else result
        if result.stride() == promise.stride()
        else promise.copy_(result)
        for result, promise in zip(results, promised, strict=True)
    ]


def _steps(
    name: str,
    x: Tensor,
    starts: list[Tensor],
    coefs: list[Tensor],
    time_steps: int,
    static: bool,
    rest: list[float],
    record: str,
    want_state: bool,
) -> list[Tensor]:
    bound = program(name, x).bind(Form.of(x, coefs, time_steps, static, tuple(rest)))
    spikes, finals, records = bound.forward(
        x, tuple(starts), tuple(coefs), _names(record), want_state
    )
    promised = _promised(x, time_steps, static, rest, record, want_state)
    return _as_promised([spikes, *finals, *records], promised)


def _steps_backward(
    name: str,
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
    bound = program(name, x).bind(Form.of(x, coefs, time_steps, static, tuple(rest)))
    results = bound.backward(
        x, tuple(starts), tuple(coefs), want_x, tuple(want_coefs), grad_spikes, *grad_finals
    )
    shape = (x, starts, coefs, time_steps, static)
    return _as_promised(results, _promised_gradients(*shape, want_x, want_coefs))


for _device in ("CPU", "CUDA"):
    _library.impl("steps", _steps, _device)
    _library.impl("steps_backward", _steps_backward, _device)
torch.library.register_fake(
    "spikeloom::steps",
    lambda name, x, starts, coefs, *others: _promised(x, *others),
    lib=_library,
)
torch.library.register_fake(
    "spikeloom::steps_backward",
    lambda name, grad, grads, x, starts, coefs, time_steps, static, rest, *wants: (
        _promised_gradients(x, starts, coefs, time_steps, static, *wants)
    ),
    lib=_library,
)


class _Steps(torch.autograd.Function):
    """Joins the two operators. Tensors come flat, the initial states before the coefs: autograd
    does not look into lists, and registering a formula for operators on lists costs 60 us a
    call.
    """

    @staticmethod
    def forward(
        ctx: Any,
        name: str,
        x: Tensor,
        rest: list[float],
        record: str,
        want_state: bool,
        start_count: int,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        starts, coefs = list(tensors[:start_count]), list(tensors[start_count:])
        ctx.save_for_backward(x, *tensors)
        ctx.name, ctx.rest, ctx.start_count = name, rest, start_count
        ctx.finals = len(rest) if want_state else 0
        ctx.set_materialize_grads(False)
        outputs = torch.ops.spikeloom.steps(
            name, x, starts, coefs, x.shape[0], False, rest, record, want_state
        )
        ctx.mark_non_differentiable(*outputs[1 + ctx.finals :])
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        x, *tensors = ctx.saved_tensors
        starts, coefs = tensors[: ctx.start_count], tensors[ctx.start_count :]
        grad_spikes, grad_finals = cotangents(grads[: 1 + ctx.finals], x, x.shape)
        want_x, want_coefs = ctx.needs_input_grad[1], list(ctx.needs_input_grad[6 + len(starts) :])
        results = torch.ops.spikeloom.steps_backward(
            ctx.name, grad_spikes, list(grad_finals), x, starts, coefs, x.shape[0], False, ctx.rest,
            want_x, want_coefs,
        )  # fmt: skip
        if torch.is_grad_enabled():
            results = NoSecondDerivative.apply(len(results), *results, grad_spikes, x, *coefs)
        gx, *others = results
        wants = [True] * len(starts) + want_coefs
        others = [grad if keep else None for grad, keep in zip(others, wants, strict=True)]
        return (None, gx if want_x else None, *[None] * 4, *others)


def run_operator(
    name: str,
    x: Tensor,
    starts: tuple[Tensor, ...],
    coefs: list[Tensor],
    rest: tuple[float, ...],
    record: tuple[str, ...],
    want_state: bool,
) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
    """Spikes, final states (empty unless wanted) and records, by the operators."""
    dtype = compute_dtype(x)
    initial = [start.to(dtype) for start in starts]
    spikes, *others = _Steps.apply(
        name,
        x,
        list(rest),
        ",".join(record),
        want_state,
        len(initial),
        *initial,
        *(coef.to(dtype) for coef in coefs),
    )
    finals = others[: len(rest)] if want_state else []
    return spikes, finals, dict(zip(record, others[len(finals) :], strict=True))
