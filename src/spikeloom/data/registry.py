"""Data sets by name.

Every module of `spikeloom.data.sets` that has a tuple `DATA_SETS` of `Source` objects contributes
them, and so does every module that another package declares as an entry point of the group
"spikeloom.data"; a program adds its own with `register`. Nothing else lists data sets.
"""

import pkgutil
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path

from spikeloom import extensions
from spikeloom.data.api import Source
from spikeloom.data.base import DataSet
from spikeloom.errors import DataError

_registered: dict[str, Source] = {}


def register(source: Source) -> Source:
    """Make `source` known under its name. Raises `DataError` if the name is taken by another."""
    if source.name in _discovered() or _registered.get(source.name, source) is not source:
        raise DataError(f"a data set named {source.name!r} exists already: choose another name")
    _registered[source.name] = source
    return source


def sources() -> dict[str, Source]:
    """All data sets by name, in the order of their names."""
    return dict(sorted((_discovered() | _registered).items()))


def names() -> tuple[str, ...]:
    """The names that `load` accepts, sorted."""
    return tuple(sources())


def source(name: str) -> Source:
    """The data set called `name`. Raises `DataError` with the nearest names if there is none."""
    known_source = _discovered().get(name) or _registered.get(name)
    if known_source is not None:
        return known_source
    known = sources()
    near = get_close_matches(name.lower(), known, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "choose one of these"
    raise DataError(f"no data set is called {name!r}: {hint} (known: {', '.join(known)})")


def load(name: str, root: str | Path | None = None) -> DataSet:
    """Read and check the data set called `name`.

    `root` is the folder with its files, or the one above. Without it they are looked for under the
    folder named by the environment variable SPIKELOOM_DATA, else under `./data`. Raises
    `DataError` naming the file and what is wrong with it.
    """
    return source(name).load(None if root is None else Path(root))


@cache
def _discovered() -> dict[str, Source]:
    package = import_module("spikeloom.data.sets")
    sets: dict[str, Source] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = import_module(f"{package.__name__}.{info.name}")
        for item in getattr(module, "DATA_SETS", ()):
            if item.name in sets:
                raise DataError(
                    f"two modules of {package.__name__} define a data set {item.name!r}"
                )
            sets[item.name] = item
    for label, module in extensions.modules("spikeloom.data"):
        if not hasattr(module, "DATA_SETS"):
            extensions.leave_out(label, "it has no tuple `DATA_SETS`")
        for item in getattr(module, "DATA_SETS", ()):
            if sets.setdefault(item.name, item) is not item:
                extensions.leave_out(label, f"there is a data set {item.name} already")
    return sets
