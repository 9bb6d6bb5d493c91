"""What other installed packages add: modules that they declare as entry points.

[project.entry-points."spikeloom.methods"]
my_method = "my_package.my_method"
"""

import warnings
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType


def modules(group: str) -> Iterator[tuple[str, ModuleType]]:
    """The modules declared in this group, each with words that name it.

    What cannot be imported is left out with a warning: a package that is broken takes away what it
    brings, and nothing else.
    """
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value)):
        label = _label(entry)
        try:
            module = entry.load()
        except Exception as error:  # whatever the other package's code raises
            leave_out(label, f"its import fails: {type(error).__name__}: {error}")
            continue
        if isinstance(module, ModuleType):
            yield label, module
        else:
            leave_out(label, "it is no module: name a module, without a colon")


def leave_out(label: str, why: str) -> None:
    """Warns that an entry is not used."""
    warnings.warn(f"{label} is left out: {why}", stacklevel=2)


def _label(entry: EntryPoint) -> str:
    package = "an installed package" if entry.dist is None else f"the package {entry.dist.name}"
    return f'entry point {entry.name} = "{entry.value}" of {package}'
