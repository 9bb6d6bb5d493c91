"""The copy of a neuron on which its step is traced: it notes every attribute that it is asked for,
and keeps what is stored away from the neuron."""

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from spikeloom.compiler.front.reads import MISSING, Path, Reads, exact, getter, is_library, shown
from spikeloom.errors import StepError

_INTERNAL = frozenset(nn.Module().__dict__) - {"training"}
_HOOKS = frozenset(name for name in _INTERNAL if name.endswith("_hooks"))


class _WatchedKind(type):
    """The class of such a copy's class: notes what is read of it, as in `type(self).k`."""

    def __getattribute__(cls, name: str) -> Any:
        value = super().__getattribute__(name)
        if name.startswith(("__", "_abc_")):
            return value
        reads, root = type.__getattribute__(cls, "__dict__")["-noted"]
        return reads.value((*root, ("get", "__class__"), ("get", name)), value)


class _Watched:
    """In front of a neuron's class in a copy of it: notes what is asked for, keeps what is
    stored away from the neuron."""

    __slots__ = ()

    def __init_subclass__(cls, **_: object) -> None:
        """A copy is no new kind of neuron: hooks of the neuron's class are not told."""

    def __getattribute__(self, name: str) -> Any:
        state = object.__getattribute__(self, "__dict__")
        carried = state.get("-carried")
        if carried is not None and name in carried:
            value = carried[name]
            # A fresh one for each reader: `self.v += x` is then no change of an argument.
            return value.clone() if isinstance(value, Tensor) else value
        if name == "__dict__":
            caller = sys._getframe(1)
            known = is_library(caller.f_globals.get("__name__"))
            if not known and caller.f_code.co_name != "__getattr__":  # which is noted by its name
                place = shown((*state["-root"], ("get", name)))
                state["-reads"].refuse(f"reads {place}: name the attribute, self.k")
        if name[:2] == "__" or name in _INTERNAL:
            if name in _HOOKS and state["-root"] and state[name]:
                state["-reads"].refuse(f"calls {shown(state['-root'])}, which has hooks")
            return super().__getattribute__(name)
        return _attribute(self, state, name)

    def __setattr__(self, name: str, value: object) -> None:
        state = object.__getattribute__(self, "__dict__")
        carried = state.get("-carried")
        if carried is not None and name in carried:
            carried[name] = value
            return
        place = shown((*state["-root"], ("get", name)))
        state["-reads"].refuse(
            f"stores {place}: a kernel would not; return it as a state or as an observed value"
        )
        super().__setattr__(name, value)  # the copy's own: the neuron keeps what it has


@contextmanager
def carrying(copy: nn.Module, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Inside the block the attributes of `copy`, a module that a step calls, are those in `values`,
    which keeps what is stored in them: for code that holds its state in attributes.
    """
    vars(copy)["-carried"] = values
    try:
        yield values
    finally:
        del vars(copy)["-carried"]


def is_recorded(module: nn.Module) -> bool:
    """Whether `module` is such a copy, or inside one."""
    return "-reads" in vars(module)


def is_carrying(module: nn.Module) -> bool:
    """Whether `module` is called inside a `carrying` block."""
    return "-carried" in vars(module)


def _attribute(copy: Any, state: dict[str, Any], name: str) -> Any:
    reads, root = state["-reads"], state["-root"]
    path = (*root, ("get", name))
    if state["_modules"].get(name) is not None and name not in state:
        return state["_modules"][name]
    member = next((vars(base)[name] for base in type(copy).__mro__[2:] if name in vars(base)), None)
    if part := getter(member):
        function: Any = getattr(member, part)
        reads.function((*root, ("get", "__class__"), ("get", name), ("get", part)), function)
        if isinstance(member, property) or name not in state:
            return object.__getattribute__(copy, name)
    try:
        value = nn.Module.__getattribute__(copy, name)
    except AttributeError:
        pass
    else:
        if isinstance(value, types.MethodType) and value.__self__ in (copy, type(copy)):
            reads.function(path, value.__func__)
            if "super" in value.__func__.__code__.co_names:
                reads.inherited(copy, root, value.__func__.__code__)
            return value
        return reads.value(path, value, lent=True)
    for kept in ("_parameters", "_buffers", "_modules"):
        if name in state[kept]:
            return reads.value(path, state[kept][name], lent=True)
    reads.values[path] = exact(MISSING)
    raise AttributeError(f"{type(copy).__name__!r} object has no attribute {name!r}")


def _copy(module: nn.Module, reads: Reads, root: Path) -> Any:
    """A copy of a module and those inside it that notes what is read."""
    kind = type(module)
    make: Any = type("WatchedKind", (_WatchedKind, type(kind)), {})
    names = {"__slots__": (), "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    watched = make(kind.__name__, (_Watched, kind), names | {"-noted": (reads, root)})
    copy = object.__new__(watched)
    state = object.__getattribute__(copy, "__dict__")
    state.update(vars(module))
    state |= {"-reads": reads, "-root": root}
    for name in ("_parameters", "_buffers"):
        state[name] = {
            key: value if value is None else torch.empty_like(value, device="meta")
            for key, value in state[name].items()
        }
    state["_modules"] = {
        name: child and _copy(child, reads, (*root, ("child", name)))
        for name, child in module._modules.items()
    }
    return copy


class Recording(Reads):
    """The copy of a neuron on which its step is traced, and what the step read of it."""

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.subject: Any = _copy(neuron, self, ())
        self._name = type(neuron).__name__

    def check(self) -> None:
        """Raises StepError for a step that read what has no value, or stored something."""
        problem = self.problem
        changed = "" if problem else self.stored()
        if changed:
            problem = f"changes {changed} in place: a kernel would not; return it as a state"
        if problem:
            raise StepError(
                f'step of {self._name} {problem}; backend="eager" runs the step as it is'
            )

    def name_of(self, tensor: Tensor) -> str | None:
        """How the step wrote a tensor that it read, or None."""
        return next((name for name, read in self.tensors.items() if read is tensor), None)

    @property
    def asked_evaluation(self) -> bool:
        """Whether the step asked if it trains, and was told that it does not."""
        values = self.values.items()
        return any(path[-1] == ("get", "training") and key == exact(False) for path, key in values)
