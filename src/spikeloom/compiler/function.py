"""The compiled step with autograd, called directly where nobody looks at calls.

`operators.py` has the same for whoever does. What is saved for backward is `x` (alive anyway), the
coefs, and the initial states if given.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C._autograd import _profiler_enabled  # type: ignore[import-untyped]
from torch._C._functorch import (  # type: ignore[import-untyped]
    is_batchedtensor,
    is_legacy_batchedtensor,
    peek_interpreter_stack,
)

from spikeloom.compiler import cache
from spikeloom.compiler.constant import repeated_step
from spikeloom.compiler.front.step import compute_dtype
from spikeloom.compiler.plan.call import Form, TraceKey
from spikeloom.compiler.target import BoundKernel, Target, TargetName, target

FORMS = 1024
"""Forms of tensors that a program keeps a bound kernel for."""


class Program:
    """A traced step for a target, and its bound kernels."""

    def __init__(self, name: str, key: TraceKey, on: Target) -> None:
        self.name, self.key, self._target = name, key, on
        self._bound: dict[Form, BoundKernel] = {}

    def bind(self, form: Form) -> BoundKernel:
        bound = self._bound.get(form)
        if bound is None:
            if len(self._bound) >= FORMS:
                self._bound.clear()
            bound = self._bound[form] = self._target.bind(self.key, form)
        return bound


_programs: dict[str, Program] = {}


def register(key: TraceKey, on: TargetName) -> str:
    """A name for a traced step by which the operators find it; equal steps share one."""
    name = f"{on}:{key.trace.signature.name}:{cache.key(key.text)}"
    if name not in _programs:
        _programs[name] = Program(name, key, target(on))
    return name


def program(name: str) -> Program:
    return _programs[name]


def trace_of(name: str) -> TraceKey:
    return _programs[name].key


def is_watched(x: Tensor) -> bool:
    """Whether somebody looks at the operators that are called: a mode, a transform, a subclass of
    Tensor, a profiler."""
    return (
        type(x) is not Tensor
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
        or peek_interpreter_stack() is not None
        or torch._C._get_tracing_state() is not None
        or _profiler_enabled()
    )


def is_exported() -> bool:
    """Whether the call is being written down for another process, which has no kernels."""
    return torch._C._get_tracing_state() is not None or torch.compiler.is_exporting()


Results = tuple[Tensor, list[Tensor], dict[str, Tensor]]
Eager = Callable[[Tensor, list[Tensor], list[Tensor]], tuple[Tensor, ...]]
"""The step in PyTorch, T times: spikes, final states, records of an input, states, coefs."""


class _Call(NamedTuple):
    """What a direct call needs again on its way back."""

    program: Program
    bound: BoundKernel
    form: Form
    record: tuple[str, ...]
    want_state: bool
    starts: int
    eager: Eager


def run_direct(
    name: str,
    x: Tensor,
    starts: tuple[Tensor, ...] | None,
    coefs: list[Tensor],
    rest: tuple[float, ...],
    record: tuple[str, ...],
    want_state: bool,
    eager: Eager,
) -> Results:
    """Spikes, final states (empty unless wanted) and records, by the bound kernel.

    `eager` runs the step in PyTorch: the gradient of records goes through it.
    """
    used, dtype = _programs[name], compute_dtype(x)
    time_steps = x.shape[0]
    static = time_steps > 1 and x.stride(0) == 0
    tensors = [] if starts is None else [_cast(start, dtype) for start in starts]
    count = len(tensors)
    coefs = [_cast(coef, dtype) for coef in coefs]
    wanted = x.requires_grad and torch.is_grad_enabled()
    if not wanted and torch.is_grad_enabled():
        wanted = any([tensor.requires_grad for tensor in (*coefs, *tensors)])
    source = repeated_step(x) if static else x
    form = Form.of(source, coefs, time_steps, static, rest)
    bound = used.bind(form)
    if not wanted:
        spikes, finals, records = bound.forward(source, tensors, coefs, record, want_state)
        return spikes, finals, dict(zip(record, records, strict=True))
    call = _Call(used, bound, form, record, want_state, count, eager)
    looked_at = (x, _PROBE) if static and x.requires_grad else (None, None)
    outputs = _apply(call, *looked_at, source, *tensors, *coefs)
    finals = list(outputs[1 : 1 + len(rest)]) if want_state else []
    return outputs[0], finals, dict(zip(record, outputs[1 + len(finals) :], strict=True))


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor if tensor.dtype is dtype else tensor.to(dtype)


class _Direct(torch.autograd.Function):
    """A direct call on tape. `whole` is a constant current `[T, B, ...]` of which `x` is the one
    time step: which of them gets the gradient is known on the way back (see `_is_looked_at`)."""

    @staticmethod
    def forward(
        ctx: Any,
        call: _Call,
        whole: Tensor | None,
        probe: Tensor | None,
        x: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, *tensors)
        ctx.call, ctx.whole = call, whole
        ctx.set_materialize_grads(False)
        count = call.starts
        spikes, finals, records = call.bound.forward(
            x, list(tensors[:count]), list(tensors[count:]), call.record, call.want_state
        )
        return (spikes, *finals, *records)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        call: _Call = ctx.call
        x, *tensors = ctx.saved_tensors
        starts, coefs = tensors[: call.starts], tensors[call.starts :]
        form, whole = call.form, ctx.whole
        whole_wanted = whole is not None and _is_looked_at(whole)
        wanted = ctx.needs_input_grad
        want_x, want_coefs = wanted[3], list(wanted[4 + call.starts :])
        finals = len(form.rest) if call.want_state else 0
        if whole_wanted:  # every step of the constant current has a gradient of its own
            x = x.unsqueeze(0).expand(form.time_steps, *x.shape)
            form = Form.of(x, coefs, form.time_steps, False, form.rest)
        if any(grad is not None for grad in grads[1 + finals :]):
            results = _through_eager(call, x, starts, coefs, grads, form.static)
        else:
            spikes = grads[0]
            if spikes is None:
                spikes = x.new_zeros(()).expand(form.time_steps, *form.step_shape)
            ends = []
            if any(grad is not None for grad in grads[1 : 1 + finals]):
                zero = torch.zeros((), dtype=compute_dtype(x), device=x.device)
                ends = [
                    zero.expand(form.step_shape) if grad is None else grad
                    for grad in grads[1 : 1 + finals]
                ]
            bound = call.program.bind(form) if whole_wanted else call.bound

            def pull(spikes: Tensor, *ends: Tensor) -> list[Tensor | None]:
                gx, begins, others = bound.backward(
                    x, starts, coefs, spikes, list(ends), want_x, want_coefs
                )
                return [gx, *begins, *others]

            batch = any(map(_is_batch, (spikes, *ends)))
            results = _batched(pull, spikes, *ends) if batch else pull(spikes, *ends)
        if torch.is_grad_enabled():
            kept = [i for i, grad in enumerate(results) if grad is not None]
            leaves = [t for t in (*grads, x, *coefs) if t is not None]
            marked = _NoSecondDerivative.apply(len(kept), *[results[i] for i in kept], *leaves)
            results = list(results)
            for i, grad in zip(kept, marked, strict=True):
                results[i] = grad
        gx, *others = results
        others = [g if want else None for g, want in zip(others, wanted[4:], strict=True)]
        gx = gx if want_x else None
        return (None, gx if whole_wanted else None, None, None if whole_wanted else gx, *others)


# the classmethod of torch.autograd.Function first asks for functorch, which `is_watched` did
_apply: Any = super(torch.autograd.Function, _Direct).apply  # type: ignore[misc]

_PROBE = torch.zeros((), requires_grad=True)
"""An input of every call on a constant current, which nobody asks the gradient of: autograd says
whether it would run its node, and so whether this is a plain `backward()`."""
with torch.enable_grad(), torch.inference_mode(False):
    _PROBE_NODE: Any = _PROBE.view_as(_PROBE).grad_fn.next_functions[0][0]  # type: ignore[union-attr]


def _is_looked_at(whole: Tensor) -> bool:
    """Whether the gradient of a constant current is seen step by step: it is a leaf, has hooks,
    was not made by expanding one step, or `autograd.grad` was asked for something (which may be
    it). Otherwise it is only ever added up over time."""
    node = whole.grad_fn
    if node is None or whole.retains_grad or whole._backward_hooks:
        return True
    if node.name() != "ExpandBackward0":
        return True
    sizes = node._saved_self_sym_sizes  # type: ignore[attr-defined]
    if len(sizes) == whole.dim() and sizes[0] != 1:
        return True
    return not torch._C._will_engine_execute_node(_PROBE_NODE)


def _is_batch(grad: Tensor) -> bool:
    """Whether a gradient stands for several: `is_grads_batched`, `torch.func.vmap`."""
    return is_legacy_batchedtensor(grad) or is_batchedtensor(grad)


_pulls: dict[int, Callable[[Tensor], Tensor]] = {}
_library = torch.library.Library("spikeloom", "FRAGMENT")
_library.define("pull(int number, Tensor grads) -> Tensor")
_library.impl("pull", lambda number, grads: _pulls[number](grads), "CompositeExplicitAutograd")


def _batched(pull: Callable[..., list[Tensor | None]], *grads: Tensor) -> list[Tensor | None]:
    """`pull(*grads)` for each element of a batch. An operator on one tensor has a batching rule
    by itself, in both of PyTorch's vmaps; so gradients go in as one, and come out as one."""
    sizes = [grad.shape for grad in grads]
    shapes: list[tuple[torch.Size, torch.dtype] | None] = []

    def pull_one(flat: Tensor) -> Tensor:
        parts = flat.split([size.numel() for size in sizes])
        pieces = [
            part.reshape(size).to(grad.dtype)
            for part, size, grad in zip(parts, sizes, grads, strict=True)
        ]
        results = pull(*pieces)
        shapes[:] = [None if r is None else (r.shape, r.dtype) for r in results]
        return torch.cat([r.reshape(-1).to(flat.dtype) for r in results if r is not None])

    number = id(pull_one)
    _pulls[number] = pull_one
    try:
        wide = max((grad.dtype for grad in grads), key=lambda dtype: dtype.itemsize)
        flat = torch.cat([grad.reshape(-1).to(wide) for grad in grads])
        found = torch.ops.spikeloom.pull(number, flat)
    finally:
        del _pulls[number]
    counts = [0 if shape is None else shape[0].numel() for shape in shapes]
    parts = found.split(counts)
    return [
        None if shape is None else part.reshape(shape[0]).to(shape[1])
        for part, shape in zip(parts, shapes, strict=True)
    ]


def _through_eager(
    call: _Call,
    x: Tensor,
    starts: list[Tensor],
    coefs: list[Tensor],
    grads: tuple[Tensor | None, ...],
    static: bool,
) -> list[Tensor | None]:
    """The gradients by the step in PyTorch: for losses on records, which kernels do not walk."""
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in (x, *starts, *coefs)]
        current, count = leaves[0], 1 + len(starts)
        if static:
            current = current.unsqueeze(0).expand(call.form.time_steps, *x.shape)
        if not starts:
            shape, dtype = call.form.step_shape, compute_dtype(x)
            begin = [x.new_full(shape, value, dtype=dtype) for value in call.form.rest]
        else:
            begin = leaves[1:count]
        outputs = call.eager(current, begin, leaves[count:])
        pairs = [
            (out, g)
            for out, g in zip(outputs, grads, strict=True)
            if g is not None and out.requires_grad
        ]
        if not pairs:
            return [None] * len(leaves)
        outs, cotangents = zip(*pairs, strict=True)
        return list(torch.autograd.grad(outs, leaves, cotangents, allow_unused=True))


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
