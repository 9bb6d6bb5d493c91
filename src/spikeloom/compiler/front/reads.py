"""What a step reads besides its arguments, and whether that has changed.

A step is traced on a copy of its neuron that notes every attribute it is asked for; the functions
that run are read for the globals, closures and defaults that they name. Each is a *path* from the
neuron (attribute, submodule, closure cell, global) and the exact value found there. The values are
the key of the compiled step, so later calls compare just those.

A value is a number, text, flag, `None`, dtype, enum, or a tuple, list, set, dict or frozen
dataclass of such; a function is known by its code and by what it reads in turn. Anything else that
a step reads is refused by name, and so is a step that stores.
"""

import builtins
import dataclasses
import dis
import enum
import functools
import operator
import sys
import types
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeloom.errors import StepError

Path = tuple[tuple[str, str], ...]
"""From a neuron to what was read: steps `("get", attribute)`, `("child", submodule)`,
`("base", method of a class it derives from)`, `("global", name)` and `("cell", number)` of a
function."""

MISSING = "<missing>"
_ATOMS = (bool, int, str, bytes, type(None), torch.dtype, torch.device, type(...), types.CodeType)
_BUILTINS = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)
_LIBRARIES = sys.stdlib_module_names | {"torch", "numpy", "spikeloom"}
"""Code that is taken as it is: known by its name, not by what it reads."""
_MOODS = {"random", "time", "datetime", "secrets", "uuid", "numpy.random"}
"""Modules whose functions answer differently each time."""


class NotAValue(Exception):
    """What a step reads has no value that could be compared later."""


def exact(value: object) -> object:
    """A hashable of plain values that is equal for equal values only: 1, 1.0 and True are three,
    0.0 and -0.0 two. Raises NotAValue."""
    kind = type(value)
    if kind in _ATOMS:
        return kind, value
    if kind is float:
        return kind, value.hex()  # type: ignore[attr-defined]
    name = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, enum.Enum):
        return name, value.name, exact(value.value)
    if isinstance(value, np.generic):
        return name, value.tobytes()
    if isinstance(value, (tuple, list)):
        return name, tuple(map(exact, value))
    if isinstance(value, dict):
        return name, tuple((exact(key), exact(item)) for key, item in value.items())
    if isinstance(value, (set, frozenset)):
        return name, frozenset(map(exact, value))
    if isinstance(value, (int, float, complex, str)):
        return name, repr(value), functions_of(kind)
    if isinstance(value, Tensor):
        return "tensor", tuple(value.shape), value.dtype
    if isinstance(value, types.FunctionType):
        return exact_function(value)
    if isinstance(value, types.MethodType) and isinstance(value.__self__, type):
        return exact_function(value.__func__)
    if isinstance(value, functools.partial):
        return name, exact(value.func), exact(value.args), exact(value.keywords)
    if isinstance(value, (*_BUILTINS, np.ufunc)):
        owner = getattr(value, "__self__", None)
        if owner is None or isinstance(owner, (types.ModuleType, type)):
            return name, getattr(value, "__module__", ""), value.__name__  # type: ignore[union-attr]
    if isinstance(value, type):
        return "type", f"{value.__module__}.{value.__qualname__}", functions_of(value)
    parameters = getattr(kind, "__dataclass_params__", None)
    if parameters is not None and parameters.frozen:
        fields = tuple(exact(getattr(value, field.name)) for field in dataclasses.fields(value))  # type: ignore[arg-type]
        return name, fields, functions_of(kind)
    raise NotAValue


def exact_function(function: types.FunctionType) -> object:
    """A function that is itself a value: its code, and all that it reads."""
    if _is_library(function.__module__):
        return "function", function.__code__
    reads = _Reads()
    reads.function((), function)
    if reads.problem:
        raise NotAValue
    return "function", tuple(reads.found.items())


def functions_of(kind: type) -> object:
    """The code of a class that is not a library's, by name."""
    if _is_library(kind.__module__):
        return ()
    return tuple(
        (name, getattr(member, "__func__", member).__code__)
        for base in kind.__mro__
        if not _is_library(base.__module__)
        for name, member in vars(base).items()
        if isinstance(getattr(member, "__func__", member), types.FunctionType)
    )


def is_settled(value: object) -> bool:
    """Whether the object cannot change: the same object is then the same value."""
    if isinstance(value, (tuple, frozenset)):
        return all(map(is_settled, value))
    return type(value) in _ATOMS or isinstance(value, (float, complex, enum.Enum, np.generic))


def follow(start: object, path: Path) -> object:
    """What lies at the end of a path; MISSING if there is nothing."""
    holder: Any = start
    try:
        for step, name in path:
            if step == "get":
                holder = getattr(holder, name)
            elif step == "child":
                holder = holder._modules[name]
            elif step == "base":
                number, _, name = name.partition(".")
                holder = vars(type(holder).__mro__[int(number)])[name]
            elif step == "cell":
                holder = holder.__closure__[int(name)].cell_contents
            else:
                names = holder.__globals__
                holder = names[name] if name in names else getattr(builtins, name)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        return MISSING
    return holder


def exact_at(start: object, path: Path) -> object:
    """The exact value at the end of a path; a module is known by what is read of it."""
    value = follow(start, path)
    if isinstance(value, nn.Module):
        return "module"
    try:
        return exact(value)
    except NotAValue:
        return "<not a value>"


class _Reads:
    """Paths and exact values, as they are found; the first that cannot be one is the `problem`."""

    def __init__(self) -> None:
        self.found: dict[Path, object] = {}
        self.problem = ""
        self.tensors: dict[str, Tensor] = {}
        self._copies: dict[Path, tuple[Any, object]] = {}
        self._shared: list[tuple[Path, Any, Any, object]] = []
        self._visited: set[int] = set()

    def refuse(self, problem: str) -> None:
        self.problem = self.problem or problem

    def value(self, path: Path, value: Any, *, lent: bool = False) -> Any:
        """Notes a value; returns it, or a copy of what the step might change (if it is `lent`)."""
        if isinstance(value, Tensor):
            self.found[path] = exact(value)
            return self.tensors.setdefault(shown(path), torch.empty_like(value, device="meta"))
        if isinstance(getattr(value, "__func__", value), types.FunctionType) and isinstance(
            getattr(value, "__self__", type), type
        ):
            self.function(path, value)
            return value
        try:
            key = self.found[path] = exact(value)
        except NotAValue:
            self.found[path] = "<not a value>"
            self.refuse(
                f"reads {shown(path)}, a {type(value).__name__}, whose value cannot be compared "
                "from call to call: make it a plain number, a tuple or frozen dataclass of them, "
                "or a tensor that coefs() returns"
            )
            return value
        if isinstance(value, (list, dict, set)):
            if lent:
                copy = self._copies.setdefault(path, (type(value)(value), key))[0]  # type: ignore[call-arg]
                return copy
            self._shared.append((path, value, value.copy(), key))
        return value

    def stored(self) -> str:
        """What the step changed in place, or ''; what others share is put back."""
        for path, (copy, key) in self._copies.items():
            if _changed(copy, key):
                return shown(path)
        for path, value, before, key in self._shared:
            if _changed(value, key):
                if isinstance(value, list):
                    value[:] = before
                else:
                    value.clear()
                    value.update(before)
                return shown(path)
        return ""

    def function(self, path: Path, function: Any) -> None:
        """Notes a function: its code, and what it names outside itself."""
        code = function.__code__
        self.found[(*path, ("get", "__code__"))] = exact(code)
        if _is_library(function.__module__) or id(function) in self._visited:
            return
        self._visited.add(id(function))
        for name in ("__defaults__", "__kwdefaults__"):
            if getattr(function, name):
                self.value((*path, ("get", name)), getattr(function, name))
        for number, name in enumerate(code.co_freevars):
            place = (*path, ("cell", str(number)))
            content = follow(function, place[len(path) :])
            if name == "__class__" or content is MISSING:
                continue
            self._named(place, content, [])
        for first, *attributes in _globals(code):
            if first == "<stores>":
                self.refuse(f"stores {attributes[0]}: a step must be a pure function")
            elif first in function.__globals__:
                content = function.__globals__[first]
                self._named((*path, ("global", first)), content, attributes)
            elif first == "<imports>" and not _is_library(attributes[0]):
                self.refuse(f"imports {attributes[0]}: import it at the top of the file")

    def _named(self, path: Path, value: Any, attributes: list[str]) -> None:
        """Notes what a function calls by a name, and the attributes that follow it."""
        while isinstance(value, types.ModuleType):
            module = value.__name__
            if module in _MOODS or (attributes and f"{module}.{attributes[0]}" in _MOODS):
                self.refuse(f"reads the module {module}: what it answers differs from call to call")
                return
            if _is_library(module) or not attributes:
                return
            name, *attributes = attributes
            path, value = (*path, ("get", name)), getattr(value, name, MISSING)
        if isinstance(value, type) and not _is_library(value.__module__):
            self._class(path, value, attributes)
        elif isinstance(value, Tensor):
            self.refuse(
                f"reads {shown(path)} directly, so it would get no gradient: return it from "
                "coefs() and take it as an argument of step"
            )
        elif isinstance(value, nn.Module):
            self.refuse(f"calls {shown(path)}, a module that is not an attribute of the neuron")
        elif not isinstance(value, type):
            self.value(path, value)

    def _class(self, path: Path, kind: type, attributes: list[str]) -> None:
        """Notes what a step may use of a class: the attribute that it names, else all functions."""
        if issubclass(kind, torch.autograd.Function):
            names = ["forward", "backward", "setup_context", "jvp", "vmap"]
        elif attributes:
            names = attributes[:1]
        elif issubclass(kind, nn.Module):
            return
        else:
            names = list(vars(kind))
        for name in names:
            member = getattr(kind, name, MISSING)
            if isinstance(getattr(member, "__func__", member), types.FunctionType):
                self.function((*path, ("get", name)), member)
            elif attributes and not callable(member):
                self.value((*path, ("get", name)), member)

    def inherited(self, copy: Any, root: Path, code: types.CodeType) -> None:
        """Notes the methods that a method may reach by `super()`."""
        kinds = type(copy).__mro__[2:]
        for number, base in enumerate(kinds[1:], 1):
            for name in code.co_names:
                member = vars(base).get(name)
                if isinstance(member, types.FunctionType) and base is not nn.Module:
                    self.function((*root, ("base", f"{number}.{name}")), member)


def _changed(value: object, key: object) -> bool:
    try:
        return exact(value) != key
    except NotAValue:
        return True


def _is_library(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _LIBRARIES


@functools.lru_cache(maxsize=1024)
def _globals(code: types.CodeType) -> tuple[tuple[str, ...], ...]:
    """The globals that a function names, each with the attributes that follow it."""
    chains: list[list[str]] = []
    going = False
    for line in dis.get_instructions(code):
        if line.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            chains.append([line.argval])
            going = True
        elif line.opname in ("LOAD_ATTR", "LOAD_METHOD") and going:
            chains[-1].append(line.argval)
        elif line.opname == "STORE_GLOBAL" or (
            line.opname == "STORE_DEREF" and line.argval in code.co_freevars
        ):
            chains.append(["<stores>", line.argval])
            going = False
        elif line.opname == "IMPORT_NAME":
            chains.append(["<imports>", line.argval])
            going = False
        else:
            going = False
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return (*map(tuple, chains), *(chain for c in inner for chain in _globals(c)))


def shown(path: Path) -> str:
    """A path as it is written in the step."""
    parts = [name for step, name in path if step in ("get", "child")]
    if path and path[-1][0] == "global":
        return path[-1][1]
    last = max((i for i, (step, _) in enumerate(path) if step == "global"), default=-1)
    if last >= 0:
        return ".".join(name for _, name in path[last:])
    if any(step == "cell" for step, _ in path):
        return f"a variable around {parts[-1] if parts else 'it'}()"
    return ".".join(("self", *parts))


_INTERNAL = frozenset(nn.Module().__dict__) - {"training"}
_HOOKS = frozenset(name for name in _INTERNAL if name.endswith("_hooks"))


class _Watched:
    """In front of a neuron's class in a copy of it: notes what is asked for, keeps what is
    stored away from the neuron."""

    __slots__ = ()

    def __init_subclass__(cls, **_: object) -> None:
        """A copy is no new kind of neuron: hooks of the neuron's class are not told."""

    def __getattribute__(self, name: str) -> Any:
        state = object.__getattribute__(self, "__dict__")
        if name[:2] == "__" or name in _INTERNAL:
            if name in _HOOKS and state["-root"] and state[name]:
                state["-reads"].refuse(f"calls {shown(state['-root'])}, which has hooks")
            return super().__getattribute__(name)
        return _attribute(self, state, name)

    def __setattr__(self, name: str, value: object) -> None:
        state = object.__getattribute__(self, "__dict__")
        place = shown((*state["-root"], ("get", name)))
        state["-reads"].refuse(
            f"stores {place}: a kernel would not; return it as a state or as an observed value"
        )
        super().__setattr__(name, value)  # the copy's own: the neuron keeps what it has


def _attribute(copy: Any, state: dict[str, Any], name: str) -> Any:
    reads, root = state["-reads"], state["-root"]
    path = (*root, ("get", name))
    if state["_modules"].get(name) is not None and name not in state:
        return state["_modules"][name]
    member = next((vars(base)[name] for base in type(copy).__mro__[2:] if name in vars(base)), None)
    if isinstance(member, (property, functools.cached_property)):
        part = "fget" if isinstance(member, property) else "func"
        function = getattr(member, part)
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
    reads.found[path] = exact(MISSING)
    raise AttributeError(f"{type(copy).__name__!r} object has no attribute {name!r}")


def _copy(module: nn.Module, reads: _Reads, root: Path) -> Any:
    """A copy of a module and those inside it that notes what is read."""
    kind = type(module)
    make: Any = type(kind)
    watched = make(
        kind.__name__,
        (_Watched, kind),
        {"__slots__": (), "__module__": kind.__module__, "__qualname__": kind.__qualname__},
    )
    copy = object.__new__(watched)
    state = object.__getattribute__(copy, "__dict__")
    state.update(vars(module))
    state |= {"-reads": reads, "-root": root}
    for name in ("_parameters", "_buffers"):
        state[name] = dict(state[name])
    state["_modules"] = {
        name: child and _copy(child, reads, (*root, ("child", name)))
        for name, child in module._modules.items()
    }
    return copy


class Recording:
    """The copy of a neuron on which its step is traced, and what the step read of it."""

    def __init__(self, neuron: nn.Module) -> None:
        self._reads = _Reads()
        self.subject: Any = _copy(neuron, self._reads, ())
        self._name = type(neuron).__name__

    def check(self) -> None:
        """Raises StepError for a step that read what has no value, or stored something."""
        problem = self._reads.problem
        changed = "" if problem else self._reads.stored()
        if changed:
            problem = f"changes {changed} in place: a kernel would not; return it as a state"
        if problem:
            raise StepError(
                f'step of {self._name} {problem}; backend="eager" runs the step as it is'
            )

    def name_of(self, tensor: Tensor) -> str | None:
        """How the step wrote a tensor that it read, or None."""
        found = self._reads.tensors.items()
        return next((name for name, read in found if read is tensor), None)

    @property
    def tensors(self) -> list[str]:
        """The tensors that were read, as they are written."""
        return list(self._reads.tensors)

    def paths(self) -> tuple[Path, ...]:
        return tuple(self._reads.found)


def key_of(neuron: nn.Module, paths: tuple[Path, ...]) -> tuple[object, ...]:
    """The exact values at the ends of these paths."""
    return tuple(exact_at(neuron, path) for path in paths)


class Unchanged:
    """Whether what a step read of one neuron is still the same; cheap where it is.

    Objects that cannot change are compared by identity, all others by value.
    """

    def __init__(self, neuron: nn.Module, paths: tuple[Path, ...]) -> None:
        groups: dict[Path, list[tuple[str, object]]] = {}
        self._others: list[tuple[Path, object]] = []
        for path in paths:
            value = follow(neuron, path)
            root = tuple(step for step in path if step[0] == "child")
            names = path[len(root) :]
            simple = path[: len(root)] == root and all(step == "get" for step, _ in names)
            if simple and value is not MISSING and is_settled(value):
                dotted = ".".join(name for _, name in names)
                groups.setdefault(root, []).append((dotted, value))
            else:
                self._others.append((path, exact_at(neuron, path)))
        self._groups = [
            (tuple(name for _, name in root), *_getter(pairs)) for root, pairs in groups.items()
        ]

    def holds(self, neuron: nn.Module) -> bool:
        try:
            for root, get, values in self._groups:
                holder: Any = neuron
                for name in root:
                    holder = holder._modules[name]
                if not all(map(operator.is_, get(holder), values)):
                    return False
        except (AttributeError, KeyError):
            return False
        return all(exact_at(neuron, path) == key for path, key in self._others)


def _getter(pairs: list[tuple[str, object]]) -> tuple[Any, tuple[object, ...]]:
    """What reads these attributes at once, and what it should find."""
    first = pairs[0] if len(pairs) == 1 else None
    pairs = [*pairs, first] if first else pairs  # of one name it would give no tuple
    names, values = zip(*pairs, strict=True)
    return operator.attrgetter(*names), values
