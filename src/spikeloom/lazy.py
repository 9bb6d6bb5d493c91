"""Packages whose names are imported when they are first used, so that no torch is loaded before.

Such a package lists its names once, below `if TYPE_CHECKING:`, as type checkers and editors read
them; what is here reads the same lines. (The package lazy_loader wants them in a file beside.)
"""

import ast
import pkgutil
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def modules_of(package: str) -> dict[str, str]:
    """The module of each name that `package` imports below `if TYPE_CHECKING:`."""
    source = pkgutil.get_data(package, "__init__.py") or b""
    imports = [
        line
        for block in ast.parse(source).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for line in block.body
        if isinstance(line, ast.ImportFrom)
    ]
    return {name.name: line.module or "" for line in imports for name in line.names}


def names(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of such a package."""
    modules = modules_of(package)

    def get(name: str) -> Any:
        return listed() if name == "__all__" else load(package, modules, name)

    def listed() -> list[str]:
        return sorted(modules)

    return get, listed


def load(package: str, modules: Mapping[str, str], name: str) -> Any:
    """What `name` is, by the module that it comes from; a module of `package` itself too."""
    if name not in modules:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    if modules[name] == package:
        return import_module(f"{package}.{name}")
    return getattr(import_module(modules[name]), name)
