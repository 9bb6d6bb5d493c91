"""A node written for SpikingJelly, as one compiled step.

Its state is in attributes and its equations in methods that change them. The step that is traced
calls those methods on a copy whose memories and parameters are the step's arguments. So a node of
the user's own, a subclass that overrides how it charges, fires or resets, gets a kernel as ours do.
"""

import functools
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from spikeloom.compiler.dispatch import Choice
from spikeloom.compiler.front.recording import carrying, is_carrying, is_recorded
from spikeloom.compiler.front.step import compute_dtype
from spikeloom.compiler.function import is_exported, is_watched
from spikeloom.neurons import Neuron

_kinds: WeakKeyDictionary[type, type] = WeakKeyDictionary()


class NoKernelError(Exception):
    """The node runs as it is written."""


class Written(Neuron):
    """The step of `node`, the method of it that is called `step_method`.

    States are the node's memories, coefs its parameters and buffers.
    """

    def __init__(self, node: Any, states: tuple[str, ...]) -> None:
        super().__init__()
        self.node = node
        self.states = states
        surrogate = node.surrogate_function
        self.learns = bool(getattr(surrogate, "learnable", False))
        if self.learns:
            self.surrogate = surrogate

    def coefs(self) -> dict[str, Tensor]:
        node = self.node
        values = {**node._parameters, **node._buffers}
        return {
            f"own.{name}": value.reshape(()) if value.numel() == 1 else value
            for name, value in values.items()
            if value is not None
        }

    def _choose(self, *which: Any) -> Choice:  # pyright: ignore[reportIncompatibleMethodOverride]
        choice = super()._choose(*which)
        if choice.program is None:
            raise NoKernelError(choice.reason)
        return choice

    def choice(self, device: torch.device, dtype: torch.dtype) -> Choice:
        return super()._choose(device, dtype, tuple(self._all_coefs()))

    def rest(self) -> dict[str, float]:
        memories = self.node._memories
        return {name: value for name in self.states if isinstance(value := memories[name], float)}

    def step(self, x: Tensor, *values: Tensor, **coefs: Tensor) -> tuple[Tensor, ...]:
        if not is_recorded(self.node):
            raise NoKernelError(
                f"{type(self).__name__} ran on a kernel, which has no second derivatives: "
                "SPIKELOOM_BACKEND=eager runs it as it is written"
            )
        attributes: dict[str, Any] = dict(zip(self.states, values, strict=True))
        attributes |= {name.removeprefix("own."): value for name, value in coefs.items()}
        attributes |= dict.fromkeys(self.node.outputs)
        if self.learns:
            attributes["surrogate_function"] = self.surrogate
        with carrying(self.node, attributes) as carried:
            spikes = getattr(self.node, self.node.step_method)(x)
            return spikes, *(carried[name] for name in self.states)


def _written(node: Any) -> Written | None:
    """The step of `node`, kept on it; None where its memories are no potentials."""
    states = tuple(
        name for name, value in node._memories.items() if isinstance(value, (float, Tensor))
    )
    written = node.__dict__.get("_written")
    if written is None or written.node is not node or written.states != states:
        if len(states) < len(node._memories):
            return None
        kind = type(node)
        if kind not in _kinds:
            _kinds[kind] = type(kind.__name__, (Written,), {})
        written = node.__dict__["_written"] = _kinds[kind](node, states)
    return written


def advance(node: Any, x: Tensor) -> Tensor | None:
    """Spikes `[T, N, ...]` of a node for the input `x` `[T, N, ...]`, and its memories moved on.

    None where the node has to run as it is written: its code cannot be a kernel, or a memory or
    parameter has a shape that a kernel reads otherwise.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.dim() < 2 or not x.numel():
        return None
    written = _written(node)
    if written is None:
        return None
    shape, memories = x.shape[1:], node._memories
    for value in written.coefs().values():
        if value.dim() and value.shape != shape and not (value.dim() == 1 and x.dim() == 3):
            return None
    seen = torch.compiler.is_compiling() or is_watched(x)
    if seen and (is_exported() or written.choice(x.device, x.dtype).program is None):
        return None
    start: list[Tensor] | None = None
    if any(isinstance(memories[name], Tensor) for name in written.states):
        start, dtype = [], compute_dtype(x)
        for name in written.states:
            value = memories[name]
            if not isinstance(value, Tensor):
                value = x.new_full(shape, value, dtype=dtype)
            if value.shape != shape or value.device != x.device:
                return None
            start.append(value.to(dtype))
    try:
        spikes, state, _ = written.run(x, None if start is None else tuple(start))
    except NoKernelError:
        return None
    memories.update(zip(written.states, state, strict=True))
    return spikes


def fusing(method: Callable[..., Any]) -> Callable[..., Any]:
    """`method(self, x)`, one step of a node, on a kernel where there can be one."""

    @functools.wraps(method)
    def call(self: Any, x: Tensor, *args: Any, **options: Any) -> Any:
        if args or options or is_carrying(self) or not self.fuses:
            return method(self, x, *args, **options)
        self.prepare(x)
        spikes = advance(self, x.unsqueeze(0)) if isinstance(x, Tensor) else None
        return method(self, x) if spikes is None else self.fired(spikes[0])

    call.is_fusing = True  # type: ignore[attr-defined]
    return call


def sequence(node: Any, x: Tensor, one_step: Callable[[Tensor], Tensor]) -> Tensor:
    """`[T, N, ...]` through `node`, fused or `one_step` by `one_step`."""
    node.prepare(x[0])
    spikes = advance(node, x) if node.fuses else None
    if spikes is None:
        return torch.stack([one_step(current) for current in x.unbind(0)])
    node.fired(spikes[-1])
    return spikes
