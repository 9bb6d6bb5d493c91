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
from functools import cache
from importlib import import_module
from typing import Literal, NamedTuple

import torch
from torch import nn
from torch._C._functorch import peek_interpreter_stack  # type: ignore[import-untyped]

from spikeloom.compiler.front.step import Step, Target
from spikeloom.errors import StepError

Backend = Literal["auto", "eager", "cpu", "gpu"]
BACKENDS: tuple[Backend, ...] = ("auto", "eager", "cpu", "gpu")
TARGETS: dict[str, Target] = {"cpu": "cpu", "cuda": "gpu"}
"""The kernels that `auto` takes, by the type of the device."""

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_HOME: dict[Target, str] = {"cpu": "cpu", "gpu": "cuda"}
_PACKAGE: dict[Target, str] = {"cpu": "numba", "gpu": "triton"}

Key = tuple[object, ...]

MANY_VARIANTS = 16
"""Kernels of one kind of neuron, different in their constants, after which a warning is due."""

ProgramKey = tuple[Target, bool, Key]
"""What a kernel is for: the target, whether it computes in float64, and the step."""

_programs: dict[ProgramKey, "str | StepError"] = {}
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

    backend: Literal["eager", "cpu", "gpu"]
    reason: str
    program: str | None = None


def available_backends() -> tuple[Backend, ...]:
    """The backends that this machine can run, `eager` first."""
    found: list[Backend] = ["eager"]
    if _missing("numba") is None:
        found.append("cpu")
    if _missing("triton") is None and (torch.cuda.is_available() or interpreting()):
        found.append("gpu")
    return tuple(found)


def interpreting() -> bool:
    """Whether GPU kernels run in Triton's interpreter, on the CPU: for tests and for debugging."""
    return os.environ.get("TRITON_INTERPRET") == "1"


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
    target: Target | None = TARGETS.get(device.type) if backend == "auto" else backend
    obstacle = _obstacle(target, device, dtype)
    if target is not None and obstacle is None:
        program = _program(make_step, (target, dtype == torch.float64, key))
        if isinstance(program, str):
            why = "asked for" if backend != "auto" else f"{device.type.upper()} tensors"
            return Choice(target, why, program)
        obstacle = str(program)
        if backend == "auto":
            _warn_once(obstacle)
    if backend != "auto":
        raise StepError(f"backend={backend!r} cannot be used: {obstacle}")
    return Choice("eager", obstacle or "")


def _obstacle(target: Target | None, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why a compiled kernel cannot take this input whatever its step, or None."""
    if target is None or (device.type != _HOME[target] and not _interprets(target, device)):
        kernel = "kernel" if target is None else f"{target} kernel"
        return f"no {kernel} for device {device.type!r}"
    if dtype not in FLOATS:
        return f"no kernel for {dtype}"
    if (missing := _missing(_PACKAGE[target])) is not None:
        return missing
    if peek_interpreter_stack() is not None:
        return "inside a torch.func transform"
    if torch.autograd.forward_ad._current_level >= 0:
        return "inside forward-mode differentiation"
    return None


def _interprets(target: Target, device: torch.device) -> bool:
    return target == "gpu" and device.type == "cpu" and interpreting()


@cache
def _missing(package: str) -> str | None:
    """Why a target's package cannot be imported, or None."""
    try:
        import_module(package)
    except ImportError as error:
        return f"{package} cannot be imported ({error}): install it with pip install {package}"
    return None


def _program(make_step: Callable[[], Step], key: ProgramKey) -> "str | StepError":
    """The program under this key, made at its first use; one thread at a time, as PyTorch
    traces."""
    if key not in _programs:
        with _lock:
            if key not in _programs:
                target, double, step = key
                _programs[key] = _compile(make_step(), target, double)
                _count_variant(step[0], _programs[key])
    return _programs[key]


def _compile(step: Step, target: Target, double: bool) -> "str | StepError":
    """The name of the program, traced; or why there is none."""
    from spikeloom.compiler.front.trace import trace
    from spikeloom.compiler.function import register
    from spikeloom.compiler.plan.call import TraceKey

    try:
        traced = trace(step, torch.float64 if double else torch.float32)
    except StepError as error:
        return error
    graphs = f"{traced.forward.text()}\n{traced.adjoint.text()}"
    return register(TraceKey(f"{step.signature} {double}\n{graphs}", traced), target)


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


def kernel_source(step: Step, backend: Literal["cpu", "gpu"], dtype: torch.dtype) -> str:
    """The text of the forward and backward kernels of a step whose coefs are per layer."""
    from spikeloom.compiler.front.trace import trace

    if backend not in ("cpu", "gpu"):
        raise ValueError(f"backend={backend!r}: kernels are written for 'cpu' and 'gpu'")
    if dtype not in FLOATS:
        raise ValueError(f"dtype={dtype}: expected one of {', '.join(map(str, FLOATS))}")
    traced = trace(step, torch.float64 if dtype == torch.float64 else torch.float32)
    return import_module(f"spikeloom.compiler.{backend}.launch").kernel_text(traced, dtype)


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
