"""A recurrent layer as one kernel call, with autograd: see `cpu/recurrent.py` for what it computes.

Saved for backward are the input, the spikes and the feedback that was felt; states are recomputed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikeloom.compiler import cache as kernel_cache
from spikeloom.compiler.cpu import recurrent as kernels
from spikeloom.compiler.cpu.launch import STORAGE
from spikeloom.compiler.cpu.threads import share
from spikeloom.compiler.cpu.writer import Variant
from spikeloom.compiler.front.trace import Trace

HIGH = 8
"""Samples of a part: the rows of a product that share a load."""

CHUNK = 128
"""Spikes and gradients of this many samples and steps are brought into cache for a sum."""

DENSE = 0.25
"""The density of spikes from which a dense product is as fast as the sum over them (measured)."""


@dataclass(frozen=True)
class Layer:
    """What a call's kernels are made for: the traced step, the place that hears the feedback
    (`kernels.INPUT` or the number of a state), and the states at rest."""

    trace: Trace
    place: int
    rest: tuple[float, ...]


def run(
    layer: Layer,
    x: Tensor,
    weight: Tensor,
    state: tuple[Tensor, ...] | None,
    coefs: list[Tensor],
    want_state: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Spikes `[T, B, F]`, and the neurons' states after the last step (empty unless wanted).

    `x` `[T, B, F]` and `weight` `[F, F]` are float32 or float64 alike, on the CPU. `state`: the
    neurons' states and the last spikes `[B, F]`; None is rest. `coefs`: one value, or `[F]`, each.
    """
    starts = [] if state is None else [value.to(x.dtype) for value in state]
    keep = torch.is_grad_enabled() and any(
        tensor.requires_grad for tensor in (x, weight, *starts, *coefs)
    )
    spikes, *finals = _Loop.apply(
        layer, keep, want_state, len(starts), x, weight, *starts, *(c.to(x.dtype) for c in coefs)
    )
    return spikes, list(finals)


class _Loop(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        layer: Layer,
        keep: bool,
        want_state: bool,
        start_count: int,
        x: Tensor,
        weight: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        starts, coefs = tensors[:start_count], tensors[start_count:]
        spikes, felt, finals, heard = _forward(layer, x, weight, starts, coefs, keep, want_state)
        ctx.layer, ctx.start_count, ctx.heard = layer, start_count, heard
        ctx.save_for_backward(x, weight, spikes, felt, *tensors)
        ctx.set_materialize_grads(False)
        return spikes, *finals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return (*[None] * 4, *_backward(ctx, list(grads)))


def _variant(layer: Layer, x: Tensor, coefs: Any, leaves: tuple[str, ...] = ()) -> Variant:
    names = layer.trace.signature.coefs
    vectors = (name for name, coef in zip(names, coefs, strict=True) if coef.numel() > 1)
    return Variant(STORAGE[x.dtype], "vec", frozenset(vectors), gradients=frozenset(leaves))


def _forward(
    layer: Layer, x: Tensor, weight: Tensor, starts: Any, coefs: Any, keep: bool, want_state: bool
) -> tuple[Tensor, Tensor, list[Tensor], int]:
    """Spikes, the feedback that was felt (its last step alone unless it is to be kept), the last
    states, and the number of spikes that were heard."""
    time_steps, batch, features = x.shape
    x = _rows(x)
    real = _real(x)
    spikes = x.new_empty(x.shape)
    felt = x.new_empty((time_steps if keep else 1, batch, features))
    finals = [x.new_empty((batch, features)) for _ in layer.rest] if want_state else []
    if not spikes.numel():
        for j, final in enumerate(finals):
            final.copy_(starts[j]) if starts else final.fill_(layer.rest[j])
        return spikes, felt, finals, 0
    variant = _variant(layer, x, coefs), layer.place
    kernel = kernel_cache.function(kernels.forward_source, "run_forward", layer.trace, *variant)
    none = np.empty(0, real)
    *states, heard = [_flat(start) for start in starts] or [none] * (len(layer.rest) + 1)
    arguments = (
        *(_flat(x), x.stride(0), x.stride(1), _flat(spikes)),
        *(_flat(felt), batch * features if keep else 0, _flat(weight.t())),
        *(heard, bool(starts), want_state),
        *(
            value
            for j, rest in enumerate(layer.rest)
            for value in (states[j], real.type(rest), _flat(finals[j]) if finals else none)
        ),
        *_coef_arguments(coefs, real),
    )
    geometry = (HIGH, time_steps, batch, features)
    parts = -(-batch // HIGH)
    counts = np.zeros(parts, np.int64)

    def work(first: int, last: int) -> None:
        scratch = np.empty(max(1, len(layer.rest)) * HIGH * features, real)
        kept = np.empty(features, real)
        kernel(
            first, last, *geometry, *arguments, scratch, np.empty(features, np.int64), kept, counts
        )

    share(work, parts, x.numel() * 8)
    return spikes, felt, finals, int(counts.sum())


def _backward(ctx: Any, grads: list[Tensor | None]) -> tuple[Tensor | None, ...]:
    """The gradients of x, weight, starts and coefs, where they are needed."""
    layer: Layer = ctx.layer
    x, weight, spikes, felt, *tensors = ctx.saved_tensors
    starts, coefs = tensors[: ctx.start_count], tensors[ctx.start_count :]
    time_steps, batch, features = x.shape
    needed = ctx.needs_input_grad[4:]
    want_x, want_weight, *wants = needed
    want_starts, want_coefs = wants[: len(starts)], wants[len(starts) :]
    names = layer.trace.signature.coefs
    leaves = [i for i, want in enumerate(want_coefs) if want]
    if not spikes.numel():
        return tuple(
            torch.zeros_like(tensor) if need else None
            for tensor, need in zip((x, weight, *starts, *coefs), needed, strict=True)
        )
    x = _rows(x)
    real = _real(x)
    none = np.empty(0, real)
    gx = x.new_empty(x.shape)
    gr = gx if layer.place == kernels.INPUT else torch.empty_like(gx)
    g = x.new_zeros((1, 1, features)).expand(x.shape) if grads[0] is None else _rows(grads[0])
    has_final = any(grad is not None for grad in grads[1:])
    rest_grad = x.new_zeros((batch, features)) if has_final else x
    finals = [rest_grad if grad is None else grad.contiguous() for grad in grads[1:]]
    grad_starts = [
        torch.empty_like(start, memory_format=torch.contiguous_format) for start in starts
    ]
    parts = -(-batch // HIGH)
    sums = [
        torch.zeros(
            (parts, coefs[i].numel()), dtype=torch.float64 if coefs[i].numel() == 1 else x.dtype
        )
        for i in leaves
    ]
    variant = _variant(layer, x, coefs, tuple(names[i] for i in leaves))
    source = kernels.backward_source
    kernel = kernel_cache.function(source, "run_backward", layer.trace, variant, layer.place)
    arguments = (
        *(_flat(x), x.stride(0), x.stride(1), _flat(felt), batch * features, _flat(weight)),
        *(_flat(g), g.stride(0), g.stride(1), _flat(gx), none if gr is gx else _flat(gr)),
        *(bool(starts), has_final),
        _flat(grad_starts[-1]) if starts else none,
        *(
            value
            for j, rest in enumerate(layer.rest)
            for value in (
                _flat(starts[j]) if starts else none,
                real.type(rest),
                _flat(finals[j]) if has_final else none,
                _flat(grad_starts[j]) if starts else none,
            )
        ),
        *_coef_arguments(coefs, real),
        *(part.numpy().reshape(-1) for part in sums),
    )
    geometry = (HIGH, time_steps, batch, features)
    size = kernels.scratch_size(layer.trace, time_steps, HIGH, features)

    def work(first: int, last: int) -> None:
        kernel(first, last, *geometry, *arguments, np.empty(size, real))

    share(work, parts, x.numel() * 8)
    grad_weight = None
    if want_weight:
        grad_weight = _weight_gradient(gr, spikes, starts[-1] if starts else None, ctx.heard)
    grad_coefs: list[Tensor | None] = [None] * len(coefs)
    for i, part in zip(leaves, sums, strict=True):
        grad_coefs[i] = part.double().sum(0).reshape(coefs[i].shape).to(x.dtype)
    return (
        gx if want_x else None,
        grad_weight,
        *(grad if want else None for grad, want in zip(grad_starts, want_starts, strict=True)),
        *grad_coefs,
    )


def _weight_gradient(gr: Tensor, spikes: Tensor, start: Tensor | None, heard: int) -> Tensor:
    """Of R, `[F, F]`: the sum over time and samples of gr_t s_{t-1}^T, with the number of spikes in
    it."""
    features = gr.shape[2]
    later, earlier = gr[1:].reshape(-1, features), spikes[:-1].reshape(-1, features)
    if heard >= DENSE * earlier.numel():
        result = later.t() @ earlier
    else:
        result = _sparse_outer(earlier, later).t()
    return result if start is None else torch.addmm(result, gr[0].t(), start)


def _sparse_outer(spikes: Tensor, grads: Tensor) -> Tensor:
    """spikes^T grads, `[F, F]`; threads take shares of the first axis, each over all rows."""
    rows, features = spikes.shape
    result = spikes.new_zeros((features, features))
    flat, s, g = _flat(result), _flat(spikes), _flat(grads)
    kernel = kernel_cache.load(kernels.OUTER).run_outer

    def work(first: int, last: int) -> None:
        places, kept = np.empty(CHUNK, np.int64), np.empty(CHUNK, s.dtype)
        kernel(flat, features, first, last, s, g, rows, places, kept)

    share(work, features, rows * features * 4)
    return result


def _real(x: Tensor) -> np.dtype:
    return np.dtype(np.float64 if x.dtype == torch.float64 else np.float32)


def _rows(x: Tensor) -> Tensor:
    """`x` with its last axis contiguous."""
    return x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous()


def _flat(tensor: Tensor) -> np.ndarray:
    """The memory of a tensor, from its first element on; copied if a step is not `[B, F]` dense."""
    tensor = tensor.detach()
    if tensor.dim() < 3:
        tensor = tensor.contiguous()
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.as_strided((1 + sum((n - 1) * s for n, s in sizes),), (1,)).numpy()


def _coef_arguments(coefs: Any, real: np.dtype) -> list[Any]:
    """A number for one value, an array for one per neuron."""
    return [
        real.type(coef.item())
        if coef.numel() == 1
        else coef.detach().contiguous().numpy().reshape(-1)
        for coef in coefs
    ]
