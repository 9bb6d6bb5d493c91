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
import inspect
import sys
import types
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Path = tuple[tuple[str, str], ...]
"""From a neuron to what was read: steps `("get", attribute)`, `("child", submodule)`,
`("base", method of a class it derives from)`, `("global", name)` and `("cell", number)` of a
function."""

MISSING = "<missing>"
_ATOMS = (bool, int, str, bytes, type(None), torch.dtype, torch.device, type(...), types.CodeType)
_BUILTINS = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)
_LIBRARIES = sys.stdlib_module_names | {"torch", "numpy", "spikeloom"}
"""Code that is taken as it is: known by its name, not by what it reads."""
_MOODS = {
    *("random", "time", "datetime", "secrets", "uuid", "numpy.random", "os", "importlib"),
    *("sys.modules", "sys.argv"),
    *("torch.is_grad_enabled", "torch.is_inference_mode_enabled", "torch.is_autocast_enabled"),
    *("torch.get_default_dtype", "torch.get_num_threads", "torch.initial_seed", "torch.backends"),
    *("globals", "eval", "exec", "open", "input", "__import__"),
}
"""Modules and functions that answer differently from call to call, or from process to process."""


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
        return name, repr(value), members_of(kind)
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
        return "type", f"{value.__module__}.{value.__qualname__}", members_of(value)
    parameters = getattr(kind, "__dataclass_params__", None)
    if parameters is not None and parameters.frozen:
        fields = tuple(exact(getattr(value, field.name)) for field in dataclasses.fields(value))  # type: ignore[arg-type]
        return name, fields, members_of(kind)
    raise NotAValue


def kind_of(value: Tensor) -> object:
    """What is known of a tensor, whose values no key holds."""
    return "tensor", tuple(value.shape), value.dtype


def exact_function(function: types.FunctionType) -> object:
    """A function that is itself a value: its code, and all that it reads."""
    if is_library(function.__module__):
        return "function", function.__code__
    reads = Reads()
    reads.function((), function)
    if reads.problem:
        raise NotAValue
    return "function", tuple(reads.values.items())


def members_of(kind: type) -> object:
    """What an object of a class that is not a library's has of it: functions and public values, by
    name."""
    if is_library(kind.__module__) or kind in _underway.get():
        return ()
    token = _underway.set(_underway.get() | {kind})
    try:
        members = {
            name: exact_member(name, member)
            for base in reversed(kind.__mro__)
            if not is_library(base.__module__)
            for name, member in vars(base).items()
        }
    except RecursionError as error:  # functions that read each other
        raise NotAValue from error
    finally:
        _underway.reset(token)
    return tuple(members.items())


def exact_member(name: str, member: Any) -> object:
    """A function or public value of a class; None for the rest."""
    member = getattr(member, getter(member) or "__func__", member)
    if isinstance(member, types.FunctionType):
        whole = name not in _OF_DATACLASSES and _names(member.__code__)
        return exact_function(member) if whole else member.__code__
    return None if name[0] == "_" or inspect.isdatadescriptor(member) else exact(member)


def getter(member: object) -> str:
    """The attribute in which a property keeps its function; "" for what is no property."""
    if isinstance(member, property):
        return "fget"
    return "func" if isinstance(member, functools.cached_property) else ""


_OF_DATACLASSES = {"__init__", "__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__"}
_underway: ContextVar[frozenset[type]] = ContextVar("underway", default=frozenset())
"""Classes whose members are being read: one may keep objects of its own."""


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


class Reads:
    """Paths and exact values, as they are found; the first that cannot be one is the `problem`."""

    def __init__(self) -> None:
        self.values: dict[Path, object] = {}
        self.problem = ""
        self.tensors: dict[str, Tensor] = {}
        """Those that were read, as they are written."""
        self._copies: dict[Path, tuple[Any, object]] = {}
        self._shared: list[tuple[Path, Any, Any, object]] = []
        self._visited: set[int] = set()
        self._underway: list[type] = []

    def refuse(self, problem: str) -> None:
        self.problem = self.problem or problem

    def value(self, path: Path, value: Any, *, lent: bool = False) -> Any:
        """Notes a value; returns it, or a copy of what the step might change (if it is `lent`)."""
        if isinstance(value, Tensor):
            self.values[path] = kind_of(value)
            return self.tensors.setdefault(shown(path), torch.empty_like(value, device="meta"))
        if getattr(value, "__module__", None) in _MOODS and callable(value):
            self._mood(shown(path))
        if isinstance(getattr(value, "__func__", value), types.FunctionType) and isinstance(
            getattr(value, "__self__", type), type
        ):
            self.function(path, value)
            return value
        try:
            key = self.values[path] = exact(value)
        except NotAValue:
            self.values[path] = "<not a value>"
            self.refuse(
                f"reads {shown(path)}, a {type(value).__name__}, whose value cannot be compared "
                "from call to call: make it a plain number, a tuple or frozen dataclass of them, "
                "or a tensor that coefs() returns"
            )
            return value
        if isinstance(value, type):
            self._class(path, value, [])
        else:
            self._class((*path, ("get", "__class__")), type(value), [])
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
        self.values[(*path, ("get", "__code__"))] = exact(code)
        if is_library(function.__module__) or id(function) in self._visited:
            return
        self._visited.add(id(function))
        for name in ("__defaults__", "__kwdefaults__"):
            if getattr(function, name):
                self.value((*path, ("get", name)), getattr(function, name))
        for first, *attributes in _names(code):
            if first == "<cell>":
                name, *attributes = attributes
                if name not in code.co_freevars or (name == "__class__" and not attributes):
                    continue
                place = ("cell", str(code.co_freevars.index(name)))
                content = follow(function, (place,))
                if content is not MISSING:
                    self._named((*path, place), content, attributes)
            elif first == "<stores>":
                self.refuse(f"stores {attributes[0]}: a step must be a pure function")
            elif first in function.__globals__:
                content = function.__globals__[first]
                self._named((*path, ("global", first)), content, attributes)
            elif first in _MOODS:
                self._mood(f"{first}()")
            elif first == "<imports>" and not is_library(attributes[0]):
                self.refuse(f"imports {attributes[0]}: import it at the top of the file")

    def _named(self, path: Path, value: Any, attributes: list[str]) -> None:
        """Notes what a function calls by a name, and the attributes that follow it."""
        while isinstance(value, types.ModuleType):
            module = value.__name__
            for name in (module, ".".join((module, *attributes[:1]))):
                if name in _MOODS:
                    return self._mood(name)
            if is_library(module):
                return
            if not attributes:
                return self.refuse(f"reads the module {module} as a whole: name what it reads")
            name, *attributes = attributes
            path, value = (*path, ("get", name)), getattr(value, name, MISSING)
        if isinstance(value, type):
            if value.__module__ in _MOODS:
                self._mood(value.__name__)
            self._class(path, value, attributes)
        elif isinstance(value, Tensor):
            self.refuse(
                f"reads {shown(path)} directly, so it would get no gradient: return it from "
                "coefs() and take it as an argument of step"
            )
        elif isinstance(value, nn.Module):
            self.refuse(f"calls {shown(path)}, a module that is not an attribute of the neuron")
        else:
            self.value(path, value)
            if attributes and isinstance(value, types.FunctionType):
                name, *attributes = attributes
                self._named((*path, ("get", name)), getattr(value, name, MISSING), attributes)

    def _mood(self, name: str) -> None:
        self.refuse(f"reads {name}: what it answers differs from call to call")

    def _class(self, path: Path, kind: type, attributes: list[str]) -> None:
        """Notes what a step may use of a class: the attribute that it names, else all functions
        and values."""
        if is_library(kind.__module__):
            return
        if (whole := not attributes) and kind in self._underway:
            return
        if issubclass(kind, torch.autograd.Function):
            names = ["forward", "backward", "setup_context", "jvp", "vmap"]
        elif attributes:
            names = attributes[:1]
        elif issubclass(kind, nn.Module):
            return
        else:
            names = [
                n for base in kind.__mro__ if not is_library(base.__module__) for n in vars(base)
            ]
        self._underway.append(kind)
        for name in dict.fromkeys(names):
            member, place = getattr(kind, name, MISSING), (*path, ("get", name))
            if part := getter(member):
                member, place = getattr(member, part), (*place, ("get", part))
            if isinstance(getattr(member, "__func__", member), types.FunctionType):
                self.function(place, member)
            elif not whole or not (name[0] == "_" or inspect.isdatadescriptor(member)):
                self._named(place, member, attributes[1:])
        self._underway.pop()

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


def is_library(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _LIBRARIES


_NAMED_AS = {"LOAD_DEREF": "<cell>", "STORE_GLOBAL": "<stores>", "IMPORT_NAME": "<imports>"}


@functools.lru_cache(maxsize=1024)
def _names(code: types.CodeType) -> tuple[tuple[str, ...], ...]:
    """The globals and cells that a function names, each with the attributes that follow it."""
    chains: list[list[str]] = []
    going = False
    for line in dis.get_instructions(code):
        name, argument = line.opname, line.argval
        if name in ("LOAD_ATTR", "LOAD_METHOD") and going:
            chains[-1].append(argument)
        elif name != "EXTENDED_ARG":
            going = name in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF")
            stores_cell = name == "STORE_DEREF" and argument in code.co_freevars
            if going or stores_cell or name in _NAMED_AS:
                mark = "<stores>" if stores_cell else _NAMED_AS.get(name)
                chains.append([argument] if mark is None else [mark, argument])
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return (*map(tuple, chains), *(chain for c in inner for chain in _names(c)))


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
