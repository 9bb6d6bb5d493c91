"""Looking into a network while it runs, and leaving nothing behind."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

Look = Callable[..., None]
"""Called with (module, arguments), and behind the module with its output too."""


@contextmanager
def hooked(
    before: Mapping[Any, Look] | None = None, after: Mapping[Any, Look] | None = None
) -> Iterator[None]:
    """Calls `before[module](module, arguments)` ahead of each module's forward pass and
    `after[module](module, arguments, output)` behind it, until the block ends."""
    with ExitStack() as stack:
        for module, look in (before or {}).items():
            stack.enter_context(_removed(module.register_forward_pre_hook(look)))
        for module, look in (after or {}).items():
            stack.enter_context(_removed(module.register_forward_hook(look)))
        yield


@contextmanager
def _removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()
