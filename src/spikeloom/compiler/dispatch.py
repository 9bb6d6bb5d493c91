"""Which backend runs a step, and why.

`auto` takes the compiled kernel where there is one for the tensor's device and dtype and the step
can be traced, and PyTorch otherwise; a step that cannot be traced is reported once. A backend that
is named either runs or says why it cannot.
"""

import os
import random
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn
from torch._C._functorch import peek_interpreter_stack  # type: ignore[import-untyped]

from spikeloom.compiler.front.comparing import key_of, unchanged
from spikeloom.compiler.front.reads import Path
from spikeloom.compiler.front.recording import Recording
from spikeloom.compiler.front.step import Step
from spikeloom.compiler.target import TargetName
from spikeloom.compiler.target import target as find_target
from spikeloom.errors import StepError, UnexplainedError

if TYPE_CHECKING:
    from spikeloom.compiler.front.trace import Trace

Backend = Literal["auto", "eager", "cpu", "gpu"]
BACKENDS: tuple[Backend, ...] = ("auto", "eager", "cpu", "gpu")
TARGETS: dict[str, TargetName] = {"cpu": "cpu", "cuda": "gpu"}
"""The kernels that `auto` takes, by the type of the device."""

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_PACKAGE: dict[TargetName, str] = {"cpu": "numba", "gpu": "triton"}

FORCED = os.environ.get("SPIKELOOM_BACKEND", "auto")
"""What `auto` is in this process: `eager` runs every step that names no backend as it is written,
so that a whole test suite goes down the reference path."""
if FORCED not in ("auto", "eager"):
    raise ValueError(f"SPIKELOOM_BACKEND={FORCED!r}: expected auto or eager")

TRIES = 3
"""Traces that may fail in a row for a reason of the moment before the neuron stays eager."""

MANY_VARIANTS = 16
"""Kernels of one kind of neuron, different in their constants, after which a warning is due."""

FORMS = 256
"""Forms of calls that a neuron keeps a binding for."""

Purpose = tuple[TargetName, bool, tuple[str, ...]]
"""What a kernel is for: the target, whether it computes in float64, and the names of the coefs."""

Recorded = tuple[Step, Recording]
Holds = Callable[[nn.Module], bool]
"""Whether what a step read of a neuron is still the same."""


@dataclass
class _Variants:
    """What is known of a kind of neuron for one purpose: for each set of paths that its step was
    seen to read, the program (or why there is none) by the values found there. No neuron, module
    or tensor is kept."""

    by_paths: dict[tuple[Path, ...], dict[object, "str | StepError"]] = field(default_factory=dict)
    failures: int = 0
    """Traces in a row that failed for a reason that may be the moment's."""

    def find(self, neuron: nn.Module) -> "tuple[tuple[Path, ...], str | StepError] | None":
        for paths, programs in self.by_paths.items():
            if (known := programs.get(key_of(neuron, paths))) is not None:
                return paths, known
        return None


_by_type: WeakKeyDictionary[type, dict[Purpose, _Variants]] = WeakKeyDictionary()
_variants: WeakKeyDictionary[type, set[str]] = WeakKeyDictionary()
_tracing = threading.local()
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
    backends: list[Backend] = ["eager"]
    if _missing("numba") is None:
        backends.append("cpu")
    if _missing("triton") is None and (torch.cuda.is_available() or interpreting()):
        backends.append("gpu")
    return tuple(backends)


def interpreting() -> bool:
    """Whether GPU kernels run in Triton's interpreter, on the CPU: for tests and for debugging."""
    return os.environ.get("TRITON_INTERPRET") == "1"


class Memo:
    """What was found out for one neuron, kept on it; a copy or a pickle of the neuron has none.

    `choices`: by purpose, with the function that says whether they hold. `bindings`: by the form of
    a call (`binding.bind`).
    """

    def __init__(self) -> None:
        self.choices: dict[tuple[object, ...], tuple[Holds, Choice]] = {}
        self.bindings: dict[tuple[object, ...], Any] = {}

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(self), ()


def choose(
    neuron: nn.Module,
    record: Callable[[tuple[str, ...]], Recorded],
    backend: Backend,
    device: torch.device,
    dtype: torch.dtype,
    coefs: tuple[str, ...],
) -> Choice:
    """The backend for an input on `device` of `dtype`; StepError if the one that was named cannot
    run.

    `record` makes the step with coefs of these names on a copy of the neuron. It is traced once
    for the values that it reads.
    """
    if backend == "auto" and FORCED == "eager":
        return Choice("eager", "SPIKELOOM_BACKEND=eager")
    purpose = (backend, device, dtype, coefs)
    memo: Memo | None = neuron.__dict__.get("_memo")
    entry = None if memo is None else memo.choices.get(purpose)
    if entry is not None and _moment() is None and entry[0](neuron):
        return entry[1]
    if backend == "eager":
        return Choice("eager", "asked for")
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r}: expected one of {', '.join(BACKENDS)}")
    target: TargetName | None = TARGETS.get(device.type) if backend == "auto" else backend
    obstacle = _obstacle(target, device, dtype) or _moment()
    if target is not None and obstacle is None:
        program, holds = _program(neuron, record, (target, dtype == torch.float64, coefs))
        if isinstance(program, str):
            why = "asked for" if backend != "auto" else f"{device.type.upper()} tensors"
            choice = Choice(target, why, program)
        else:
            obstacle = str(program)
            if backend == "auto":
                _warn_once(obstacle)
            choice = Choice("eager", obstacle)
        if holds is not None and (program == choice.program or backend == "auto"):
            if memo is None:
                memo = neuron.__dict__["_memo"] = Memo()
            memo.choices[purpose] = holds, choice
        if obstacle is None or backend == "auto":
            return choice
    if backend != "auto":
        raise StepError(f"backend={backend!r} cannot be used: {obstacle}")
    return Choice("eager", obstacle or "")


def remember(
    neuron: nn.Module, purpose: tuple[object, ...], form: tuple[object, ...], binding: object
) -> None:
    """Keeps on the neuron what runs calls of a form, for as long as the choice holds that was made
    for `purpose`: backend, device, dtype, and names of the coefs."""
    memo: Memo | None = neuron.__dict__.get("_memo")
    choice = None if memo is None else memo.choices.get(purpose)
    if memo is None or choice is None:
        return
    if len(memo.bindings) >= FORMS:
        memo.bindings.clear()
    memo.bindings[form] = choice[0], binding


def _obstacle(target: TargetName | None, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why a compiled kernel cannot take this input whatever its step, or None."""
    interprets = target == "gpu" and device.type == "cpu" and interpreting()
    if target is None or (TARGETS.get(device.type) != target and not interprets):
        kernel = "kernel" if target is None else f"{target} kernel"
        return f"no {kernel} for device {device.type!r}"
    if dtype not in FLOATS:
        return f"no kernel for {dtype}"
    return _missing(_PACKAGE[target])


def _moment() -> str | None:
    """Why no kernel can be called just now, or None."""
    if peek_interpreter_stack() is not None:
        return "inside a torch.func transform"
    if torch.autograd.forward_ad._current_level >= 0:
        return "inside forward-mode differentiation"
    return None


@cache
def _missing(package: str) -> str | None:
    """Why a target's package cannot be imported, or None."""
    try:
        import_module(package)
    except ImportError as error:
        return f"{package} cannot be imported ({error}): install it with pip install {package}"
    return None


def _program(
    neuron: nn.Module, record: Callable[[tuple[str, ...]], Recorded], purpose: Purpose
) -> "tuple[str | StepError, Holds | None]":
    """The program of a neuron, and what tells that it is still that one (None: ask again); one
    thread at a time, as PyTorch traces."""
    if getattr(_tracing, "on", False):
        return StepError("inside the step of another neuron"), None
    with _lock:
        variants = _by_type.setdefault(type(neuron), {}).setdefault(purpose, _Variants())
        entry = variants.find(neuron)
        if entry is None:
            step, recording = record(purpose[2])
            program = _in_quiet(lambda: _compile(step, recording, purpose))
            entry = tuple(recording.values), program
            if isinstance(program, UnexplainedError):
                variants.failures += 1
                if variants.failures < TRIES:
                    return program, None
            variants.failures = 0
            values = variants.by_paths.setdefault(entry[0], {})
            values[key_of(neuron, entry[0])] = program
            _count_variant(type(neuron), program)
    return entry[1], unchanged(neuron, entry[0])


def _in_quiet(work: "Callable[[], str | StepError]") -> "str | StepError":
    """Calls `work` outside every mode of the caller: anomaly detection, autocast, inference, vmap,
    jit and fake tensors, and leaves its random numbers alone.

    A thread of its own has none of PyTorch's modes but the anomaly's, which is the process's.
    """
    answers: list[str | StepError | BaseException] = []

    def run() -> None:
        _tracing.on = True
        try:
            answers.append(_drawing_nothing(work))
        except BaseException as error:
            answers[:] = [error]

    with torch.autograd.set_detect_anomaly(False):
        thread = threading.Thread(target=run, name="spikeloom-trace")
        thread.start()
        thread.join()
    (answer,) = answers
    if isinstance(answer, BaseException) and not isinstance(answer, StepError):
        raise answer
    return answer


def _drawing_nothing(work: "Callable[[], str | StepError]") -> "str | StepError":
    """Calls `work` and puts every generator back. One outside PyTorch that was used is a reason
    not to compile: a kernel would repeat the number it gave (an operation of PyTorch that draws is
    refused by its name)."""
    old = np.random.mtrand._rand  # the global generator, that of np.random.rand
    states = torch.get_rng_state(), random.getstate(), old.get_state()
    try:
        answer = work()
        drawn = random.getstate() != states[1] or str(old.get_state()) != str(states[2])
    finally:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        old.set_state(states[2])
    if drawn and isinstance(answer, str):
        return StepError("a step draws random numbers outside PyTorch: a kernel would keep them")
    return answer


def _compile(step: Step, recording: Recording, purpose: Purpose) -> "str | StepError":
    """The name of the program, traced; or why there is none."""
    from spikeloom.compiler.function import register

    target, double, _ = purpose
    try:
        traced = _trace(step, recording, torch.float64 if double else torch.float32)
    except StepError as error:
        return error
    return register(traced, target)


def _trace(step: Step, recording: Recording, dtype: torch.dtype) -> "Trace":
    """The graphs of a step; StepError for what it does or reads that a kernel cannot."""
    from spikeloom.compiler.front.trace import trace

    try:
        return trace(step, dtype)
    finally:
        recording.check()  # what it names is why a trace failed, if it did


def _count_variant(kind: type, program: "str | StepError") -> None:
    """A number that changes from call to call is a new kernel each time: say so before it hurts."""
    known = _variants.setdefault(kind, set())
    if isinstance(program, StepError) or program in known:
        return
    known.add(program)
    if len(known) == MANY_VARIANTS:
        warnings.warn(
            f"{kind.__name__} has been compiled with {MANY_VARIANTS} different sets of constants, "
            "seconds each: return the one that changes from coefs(), as an argument of one kernel",
            stacklevel=2,
        )


_warned: set[str] = set()


def _warn_once(why: str) -> None:
    if why not in _warned:
        _warned.add(why)
        warnings.warn(f"a neuron runs eagerly, many times slower: {why}", stacklevel=2)


def kernel_source(recorded: Recorded, backend: Literal["cpu", "gpu"], dtype: torch.dtype) -> str:
    """The text of the forward and backward kernels of a step whose coefs are per layer."""
    if backend not in ("cpu", "gpu"):
        raise ValueError(f"backend={backend!r}: kernels are written for 'cpu' and 'gpu'")
    if dtype not in FLOATS:
        raise ValueError(f"dtype={dtype}: expected one of {', '.join(map(str, FLOATS))}")
    traced = _trace(*recorded, torch.float64 if dtype == torch.float64 else torch.float32)
    return find_target(backend).kernel_text(traced, dtype)
