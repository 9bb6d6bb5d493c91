"""`import spikingjelly` from us: the modules of a version, made when they are first imported."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Sequence
from functools import cache
from typing import Any

from spikeloom.compat.spikingjelly.dialects import DEFAULTS, dialect
from spikeloom.compat.spikingjelly.ledger import reason

THEIRS, OURS = "spikingjelly", __name__.rpartition(".")[0]
_versions = dict(DEFAULTS)


def use(version: str) -> None:
    """Speak as `version` of SpikingJelly from now on. Before its modules are imported."""
    chosen = dialect(version)
    taken = [name for name in sys.modules if name.startswith(f"{OURS}.{chosen.package}.")]
    taken += [name for name in sys.modules if name.startswith(f"{THEIRS}.{chosen.package}.")]
    if taken and _versions[chosen.package] != chosen.version:
        raise RuntimeError(f"{taken[0]} is imported already: call use({version!r}) before that")
    _versions[chosen.package] = chosen.version


@cache
def modules(version: str) -> dict[str, dict[str, Any]]:
    """What the modules of a version hold, by their names in its package."""
    from spikeloom.compat.spikingjelly import (
        charges,
        encoders,
        functional,
        layers,
        memory,
        monitors,
        surrogates,
    )

    habits = dialect(version)
    surrogate = surrogates.namespace(habits)
    neuron = charges.namespace(habits, surrogate)
    base = ("StepModule", "SingleStepModule", "MultiStepModule", "MemoryModule")
    namespaces = {
        "surrogate": surrogate,
        "neuron": neuron,
        "layer": layers.namespace(habits),
        "functional": _public(functional),
        "encoding": _public(encoders),
        "monitor": monitors.namespace(habits, neuron["BaseNode"]),
        "base": {name: getattr(memory, name) for name in base},
    }
    if habits.learns_alpha:  # 0.0.0.0.2
        namespaces["accelerating"] = {
            "add": lambda x, spike: x + spike,
            "sub": lambda x, spike: x - spike,
            "mul": lambda x, spike, spike_mul_spike=False: x * spike,
        }
    return namespaces


def _public(module: types.ModuleType) -> dict[str, Any]:
    """The functions and classes that are written in a module: alike in all versions."""
    return {
        name: value
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and name[0] != "_"
    }


def _contents(place: str) -> dict[str, Any] | None:
    """The names of the module `place` (without `spikingjelly.`); None if there is none."""
    package, _, part = place.partition(".")
    if package in _versions:
        version = _versions[package]
        known = modules(version)
        if part in known:
            return known[part]
        return _model(version, part) if part else {}
    if package == "cext":
        from spikeloom.compat.spikingjelly import extension

        named = {"neuron": extension.namespace, "": dict}
        return named[part]() if part in named else None
    if package == "datasets":
        from spikeloom.compat.spikingjelly import frames

        names = frames.namespace(part)
        return names or None
    return {} if place in ("", "configure") else None


def _model(version: str, part: str) -> dict[str, Any] | None:
    habits = dialect(version)
    if habits.single or part.partition(".")[0] != "model":
        return None
    from spikeloom.compat.spikingjelly import models

    module = f"{OURS}.{habits.package}"
    return models.namespace(part.partition(".")[2], modules(version), module)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `ROOT.clock_driven.neuron` and so on, for one ROOT."""

    def __init__(self, root: str) -> None:
        self.root = root

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.root and not fullname.startswith(f"{self.root}."):
            return None
        place = fullname.removeprefix(self.root).lstrip(".")
        if self.root == OURS and (not place or place.split(".")[0] not in _PACKAGES):
            return None
        if place and _contents(place) is None:
            why = reason(place) or "no such module, or none that published code was seen to use"
            # Without name=: `from package import module` would drop the reason.
            raise ModuleNotFoundError(f"{THEIRS}.{place} is not served by spikeloom: {why}")
        spec = importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        spec.submodule_search_locations = []
        return spec

    def exec_module(self, module: types.ModuleType) -> None:
        place = module.__name__.removeprefix(self.root).lstrip(".")
        names = _contents(place) or {}
        module.__dict__.update(names)
        module.__dict__["__all__"] = [name for name in names if not name.startswith("_")]
        version = _versions.get(place.partition(".")[0], DEFAULTS["activation_based"])
        module.__dict__["__version__"] = version

        def missing(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            if not place or place in _versions:
                try:
                    return importlib.import_module(f"{module.__name__}.{name}")
                except ModuleNotFoundError as error:
                    raise AttributeError(str(error)) from None
            why = reason(place, name) or "no such name, or none that published code was seen to use"
            raise AttributeError(
                f"{THEIRS}.{place}.{name} ({version}) is not served by spikeloom: {why}"
            )

        module.__dict__["__getattr__"] = missing


_PACKAGES = ("clock_driven", "activation_based", "cext", "datasets", "configure")


def install(version: str | None = None) -> None:
    """Serve every later `import spikingjelly...` of this process, as `version` of it; and
    `torchvision` where that cannot be imported (`compat.spikingjelly.vision`).
    """
    if version is not None:
        use(version)
    if THEIRS in sys.modules and not isinstance(sys.modules[THEIRS].__loader__, Finder):
        raise RuntimeError("the real spikingjelly is imported already: install() comes before that")
    _serve(THEIRS)
    from spikeloom.compat.spikingjelly import vision

    vision.install()


def serve_ours() -> None:
    """Let `spikeloom.compat.spikingjelly.clock_driven.neuron` and the like be imported."""
    _serve(OURS)


def _serve(root: str) -> None:
    if not any(isinstance(f, Finder) and f.root == root for f in sys.meta_path):
        sys.meta_path.insert(0, Finder(root))
