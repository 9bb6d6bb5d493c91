"""Which backend runs a step, and why.

`auto` takes the compiled kernel where there is one for the tensor's device and dtype and the step
can be traced, and PyTorch otherwise; a step that cannot be traced is reported once. A backend that
is named either runs or says why it cannot.
"""

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import nn
from torch._C._functorch import peek_interpreter_stack  # type: ignore[import-untyped]

from spikeloom.compiler.step import Step
from spikeloom.errors import StepError

Backend = Literal["auto", "eager", "cpu"]
BACKENDS: tuple[Backend, ...] = ("auto", "eager", "cpu")

Key = tuple[object, ...]

MANY_VARIANTS = 16
"""Kernels of one kind of neuron, different in their constants, after which a warning is due."""

_programs: dict[tuple[bool, Key], "str | StepError"] = {}
_variants: dict[object, set[str]] = {}
_lock = threading.Lock()


def _new_lock() -> None:
    """A forked child may have inherited the lock from a thread that it does not have."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


class Choice(NamedTuple):
    """A backend, why it was taken, and the compiled program if it is not eager."""

    backend: Literal["eager", "cpu"]
    reason: str
    program: str | None = None


def available_backends() -> tuple[Backend, ...]:
    """The backends that this machine can run, `eager` first."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return ("eager",)
    return ("eager", "cpu")


def choose(
    make_step: Callable[[], Step],
    key: Key,
    backend: Backend,
    device: torch.device,
    dtype: torch.dtype,
) -> Choice:
    """The backend for an input on `device` of `dtype`; StepError if the one that was named cannot
    run.

    `key` identifies the step: its type, its constants, the names of its coefs. It is made and
    traced once.
    """
    if backend == "eager":
        return Choice("eager", "asked for")
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r}: expected one of {', '.join(BACKENDS)}")
    obstacle = _obstacle(device, dtype)
    if obstacle is None:
        program = _program(make_step, (dtype == torch.float64, key))
        if isinstance(program, str):
            return Choice("cpu", "asked for" if backend == "cpu" else "CPU tensors", program)
        obstacle = str(program)
        if backend == "auto":
            _warn_once(obstacle)
    if backend == "cpu":
        raise StepError(f"backend='cpu' cannot be used: {obstacle}")
    return Choice("eager", obstacle)


def _obstacle(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why a compiled kernel cannot take this input whatever its step, or None."""
    if device.type != "cpu":
        return f"no kernel for device {device.type!r}"
    if dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        return f"no kernel for {dtype}"
    if peek_interpreter_stack() is not None:
        return "inside a torch.func transform"
    if torch.autograd.forward_ad._current_level >= 0:
        return "inside forward-mode differentiation"
    return None


def _program(make_step: Callable[[], Step], key: tuple[bool, Key]) -> "str | StepError":
    """The program under this key, made at its first use; one thread at a time, as PyTorch
    traces."""
    if key not in _programs:
        with _lock:
            if key not in _programs:
                _programs[key] = _compile(make_step(), key[0])
                _count_variant(key[1][0], _programs[key])
    return _programs[key]


def _compile(step: Step, double: bool) -> "str | StepError":
    """The name of the program, traced; or why there is none."""
    from spikeloom.compiler.function import register
    from spikeloom.compiler.launch import TraceKey
    from spikeloom.compiler.trace import trace

    try:
        traced = trace(step, torch.float64 if double else torch.float32)
    except StepError as error:
        return error
    graphs = f"{traced.forward.text()}\n{traced.adjoint.text()}"
    return register(TraceKey(f"{step.signature} {double}\n{graphs}", traced))


def _count_variant(kind: object, program: "str | StepError") -> None:
    """A number that changes from call to call is a new kernel each time: say so before it hurts."""
    known = _variants.setdefault(kind, set())
    if isinstance(program, StepError) or program in known:
        return
    known.add(program)
    if len(known) == MANY_VARIANTS:
        name = getattr(kind, "__name__", str(kind))
        warnings.warn(
            f"{name} has been compiled with {MANY_VARIANTS} different sets of constants, seconds "
            "each: return the one that changes from coefs(), as an argument of one kernel",
            stacklevel=2,
        )


_warned: set[str] = set()


def _warn_once(why: str) -> None:
    if why not in _warned:
        _warned.add(why)
        warnings.warn(f"a neuron runs eagerly, many times slower: {why}", stacklevel=2)


def kernel_source(step: Step, backend: Literal["cpu"], dtype: torch.dtype) -> str:
    """The text of the forward and backward kernels of a step whose coefs are per layer."""
    from spikeloom.compiler import cpu
    from spikeloom.compiler.emit import Variant
    from spikeloom.compiler.launch import STORAGE
    from spikeloom.compiler.trace import trace

    if backend != "cpu":
        raise ValueError(f"backend={backend!r}: kernels are written for 'cpu'")
    if dtype not in STORAGE:
        raise ValueError(f"dtype={dtype}: expected one of {', '.join(map(str, STORAGE))}")
    traced = trace(step, torch.float64 if dtype == torch.float64 else torch.float32)
    gradients = frozenset(("x", *step.signature.coefs))
    return "\n\n".join(
        (
            cpu.forward_source(traced, Variant(STORAGE[dtype], "row")),
            cpu.backward_source(traced, Variant(STORAGE[dtype], "row", gradients=gradients)),
        )
    )


@dataclass(frozen=True)
class Explanation:
    """What `explain` found: one row per neuron; prints as a table."""

    rows: tuple[tuple[str, str, str, str], ...]
    """Module path, kind of neuron, backend, reason."""

    def __str__(self) -> str:
        head = ("neuron", "kind", "backend", "because")
        widths = [max(len(row[i]) for row in (head, *self.rows)) for i in range(3)]
        return "\n".join(
            "  ".join(
                (*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3])
            ).rstrip()
            for row in (head, *self.rows)
        )

    def __iter__(self) -> Iterator[tuple[str, str, str, str]]:
        return iter(self.rows)


def explain(
    module: nn.Module,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Explanation:
    """For every neuron in `module`: which backend runs it, and why.

    `device`: where the input will be; that of the module's parameters if it is not given.
    """
    if device is None:
        first = next(module.parameters(), None)
        device = torch.device("cpu") if first is None else first.device
    rows = []
    for path, neuron in module.named_modules():
        explain_choice = getattr(neuron, "choice", None)
        if explain_choice is None:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                choice = explain_choice(torch.device(device), dtype)
                row = (choice.backend, choice.reason)
            except StepError as error:
                row = ("none", str(error))
        rows.append((path or "(itself)", type(neuron).__name__, *row))
    return Explanation(tuple(rows))
