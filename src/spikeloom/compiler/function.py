"""The compiled step with autograd, called directly where nobody looks at calls.

`operators.py` has the same for whoever does. What is saved for backward is `x` (alive anyway), the
coefs, and the initial states if given.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch._C._autograd import _profiler_enabled  # type: ignore[import-untyped]
from torch._C._functorch import (  # type: ignore[import-untyped]
    is_batchedtensor,
    is_legacy_batchedtensor,
    peek_interpreter_stack,
)
from torch.autograd import forward_ad

from spikeloom.compiler import cache
from spikeloom.compiler.constant import repeated_step
from spikeloom.compiler.front.step import compute_dtype
from spikeloom.compiler.front.trace import Trace
from spikeloom.compiler.plan.bound import BoundKernel
from spikeloom.compiler.plan.call import Form
from spikeloom.compiler.target import Target, TargetName, target

FORMS = 1024
"""Forms of tensors that a program keeps a bound kernel for."""


class Program:
    """A traced step for a target, and its bound kernels."""

    def __init__(self, trace: Trace, on: Target) -> None:
        self.trace, self._target = trace, on
        self.bound: dict[Form, BoundKernel] = {}

    def bind(self, form: Form) -> BoundKernel:
        bound = self.bound.get(form)
        if bound is None:
            if len(self.bound) >= FORMS:
                self.bound.clear()
            bound = self.bound[form] = self._target.bind(self.trace, form)
        return bound


_programs: dict[str, Program] = {}


def register(trace: Trace, on: TargetName) -> str:
    """A name for a traced step by which the operators find it; equal steps share one."""
    name = f"{on}:{trace.signature.name}:{cache.key(trace.text)}"
    if name not in _programs:
        _programs[name] = Program(trace, target(on))
    return name


_compiled: WeakValueDictionary[int, Any] = WeakValueDictionary()
_numbers = itertools.count()


def name_in_graph(program: str, neuron: nn.Module) -> str:
    """The name of a neuron's program in a graph of `torch.compile`, whose guards know nothing of
    what the step read: with it the operator asks again at every call (`program`)."""
    number = next(_numbers)
    _compiled[number] = neuron
    return f"{program}@{number}"


def program(name: str, x: Tensor) -> Program:
    """The program of a name, for an input like `x`; RuntimeError where the neuron that the name
    stands for has changed into one that needs another graph."""
    name, _, number = name.partition("@")
    neuron = _compiled.get(int(number)) if number else None
    original = _programs[name]
    if neuron is None:
        return original
    signature = original.trace.signature
    now = _programs.get(neuron._choose(x.device, x.dtype, signature.coefs).program or "")
    if now is None or now.trace.signature != signature:
        raise RuntimeError(
            f"the step of {signature.name} has changed since torch.compile: it has no kernel with "
            "the same states and constants; call torch._dynamo.reset() to compile it anew"
        )
    return now


def forget_bound() -> None:
    """Lets go of every bound kernel, so that calls of other forms bind anew: for measurements."""
    for kept in _programs.values():
        kept.bound.clear()


def trace_of(name: str) -> Trace:
    return _programs[name].trace


def is_watched(x: Tensor) -> bool:
    """Whether somebody looks at the operators that are called: a mode, a transform, derivatives
    in forward mode, a subclass of Tensor, a profiler."""
    return (
        type(x) is not Tensor
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
        or peek_interpreter_stack() is not None
        or torch._C._get_tracing_state() is not None
        or forward_ad._current_level >= 0
        or _profiler_enabled()
    )


def is_exported() -> bool:
    """Whether the call is being written down for another process, which has no kernels."""
    return torch._C._get_tracing_state() is not None or torch.compiler.is_exporting()


Eager = Callable[
    [Tensor, list[Tensor], list[Tensor]], tuple[Tensor, list[Tensor], dict[str, Tensor]]
]
"""The step in PyTorch, T times: spikes, final states, records of an input, states, coefs."""


class Binding:
    """A program for the calls of one form: all that follows from shapes, strides, dtypes, and from
    what is asked for."""

    def __init__(
        self,
        program: str,
        x: Tensor,
        starts: tuple[Tensor, ...],
        coefs: tuple[Tensor, ...],
        rest: tuple[float, ...],
        record: tuple[str, ...],
        want_state: bool,
    ) -> None:
        self.program = _programs[program]
        self.record, self.want_state = record, want_state
        self.starts = len(starts)
        self.finals = len(rest) if want_state else 0
        self.dtype = compute_dtype(x)
        self.static = x.shape[0] > 1 and x.stride(0) == 0
        step = x[0] if self.static else x
        self.form = Form.of(step, coefs, x.shape[0], self.static, rest)
        self.kernel = self.program.bind(self.form)
        self.fits = True
        for tensor in (*starts, *coefs):
            self.fits &= tensor.dtype is self.dtype and tensor.device == x.device
            if tensor.device != x.device and tensor.dim():
                name = self.program.trace.signature.name
                raise ValueError(
                    f"{name} got an input on {x.device} and a state or constant on "
                    f"{tensor.device}: move both to one device"
                )


Results = tuple[Tensor, Sequence[Tensor], Sequence[Tensor]]
"""Spikes, final states (empty unless wanted), and records."""


def run_direct(
    binding: Binding, x: Tensor, tensors: tuple[Tensor, ...], eager: Eager | None
) -> Results:
    """What the bound kernel gives for an input, and for `tensors`: initial states, then coefs.

    `eager` runs the step in PyTorch: the gradient of records goes through it.
    """
    if not binding.fits:
        tensors = tuple([tensor.to(x.device, binding.dtype) for tensor in tensors])
    taped = False
    if torch.is_grad_enabled():
        taped = x.requires_grad
        for tensor in tensors:
            taped = taped or tensor.requires_grad
    source = repeated_step(x) if binding.static else x
    if not taped:
        count = binding.starts
        return binding.kernel.forward(
            source, tensors[:count], tensors[count:], binding.record, binding.want_state
        )
    if binding.static and x.requires_grad:
        outputs = _apply(binding, eager, x, _PROBE, source, *tensors)
    else:
        outputs = _apply(binding, eager, None, None, source, *tensors)
    last = 1 + binding.finals
    return outputs[0], outputs[1:last], outputs[last:]


class _Direct(torch.autograd.Function):
    """A direct call on tape. `whole` is a constant current `[T, B, ...]` of which `x` is the one
    time step: which of them gets the gradient is known on the way back (see `_is_looked_at`)."""

    @staticmethod
    def forward(
        ctx: Any,
        binding: Binding,
        eager: Eager | None,
        whole: Tensor | None,
        probe: Tensor | None,
        x: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, *tensors)
        ctx.binding, ctx.eager, ctx.whole = binding, eager, whole
        ctx.set_materialize_grads(False)
        count = binding.starts
        spikes, finals, records = binding.kernel.forward(
            x, tensors[:count], tensors[count:], binding.record, binding.want_state
        )
        return (spikes, *finals, *records)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        binding: Binding = ctx.binding
        x, *tensors = ctx.saved_tensors
        needs, count, last = ctx.needs_input_grad, 5 + binding.starts, 1 + binding.finals
        starts, coefs = tuple(tensors[: binding.starts]), tuple(tensors[binding.starts :])
        form, kernel, whole = binding.form, binding.kernel, ctx.whole
        whole_wanted = whole is not None and _is_looked_at(whole)
        if whole_wanted:  # every step of the constant current has a gradient of its own
            x = x.unsqueeze(0).expand(form.time_steps, *x.shape)
            form = Form.of(x, coefs, form.time_steps, False, form.rest)
            kernel = binding.program.bind(form)
        if last < len(grads) and any([grad is not None for grad in grads[last:]]):
            results = _through_eager(ctx.eager, form, x, starts, coefs, grads)
        else:
            shape = (form.time_steps, *x.shape) if form.static else x.shape
            spikes, ends = cotangents(grads[:last], x, shape)
            pull = partial(kernel.backward, x, starts, coefs, needs[4], needs[count:])
            run = partial(_batched, pull) if _is_batch((spikes, *ends)) else pull
            results = run(spikes, *ends)
        if torch.is_grad_enabled():
            results = _without_second(results, [*grads, x, *coefs])
        gx, *others = results
        if not all(needs[5:]):
            others = [grad if want else None for grad, want in zip(others, needs[5:], strict=True)]
        if whole_wanted:
            return None, None, gx, None, None, *others
        return None, None, None, None, gx if needs[4] else None, *others


def cotangents(
    grads: tuple[Tensor | None, ...], x: Tensor, shape: tuple[int, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The gradients of spikes `shape` `[T, B, ...]` and of final states as a kernel takes them:
    zeros for those that are None, and none of final states if all are."""
    spikes, *ends = grads
    if spikes is None:
        spikes = x.new_zeros(()).expand(shape)
    if not ends or all([end is None for end in ends]):
        return spikes, ()
    zero = torch.zeros((), dtype=compute_dtype(x), device=x.device).expand(shape[1:])
    return spikes, tuple([zero if end is None else end for end in ends])


def _without_second(
    results: list[Tensor | None], leaves: list[Tensor | None]
) -> list[Tensor | None]:
    """The gradients, which refuse to be differentiated by `leaves`."""
    kept = [i for i, grad in enumerate(results) if grad is not None]
    present = [leaf for leaf in leaves if leaf is not None]
    marked = NoSecondDerivative.apply(len(kept), *[results[i] for i in kept], *present)
    results = list(results)
    for i, grad in zip(kept, marked, strict=True):
        results[i] = grad
    return results


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


def _is_batch(grads: tuple[Tensor, ...]) -> bool:
    """Whether gradients stand for several: `is_grads_batched`, `torch.func.vmap`."""
    return any(map(is_legacy_batchedtensor, grads)) or any(map(is_batchedtensor, grads))


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
        result = torch.ops.spikeloom.pull(number, flat)
    finally:
        del _pulls[number]
    counts = [0 if shape is None else shape[0].numel() for shape in shapes]
    parts = result.split(counts)
    return [
        None if shape is None else part.reshape(shape[0]).to(shape[1])
        for part, shape in zip(parts, shapes, strict=True)
    ]


def _through_eager(
    eager: Eager,
    form: Form,
    x: Tensor,
    starts: tuple[Tensor, ...],
    coefs: tuple[Tensor, ...],
    grads: tuple[Tensor | None, ...],
) -> list[Tensor | None]:
    """The gradients by the step in PyTorch: for losses on records, which kernels do not walk."""
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in (x, *starts, *coefs)]
        current, count = leaves[0], 1 + len(starts)
        if form.static:
            current = current.unsqueeze(0).expand(form.time_steps, *x.shape)
        if not starts:
            shape, dtype = form.step_shape, compute_dtype(x)
            begin = [x.new_full(shape, value, dtype=dtype) for value in form.rest]
        else:
            begin = leaves[1:count]
        spikes, ends, records = eager(current, begin, leaves[count:])
        ends = ends[: len(grads) - 1 - len(records)]  # none where they were not asked for
        outputs = zip((spikes, *ends, *records.values()), grads, strict=True)
        pairs = [(out, g) for out, g in outputs if g is not None and out.requires_grad]
        if not pairs:
            return [None] * len(leaves)
        outs, cotangents = zip(*pairs, strict=True)
        return list(torch.autograd.grad(outs, leaves, cotangents, allow_unused=True))


class NoSecondDerivative(torch.autograd.Function):
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
