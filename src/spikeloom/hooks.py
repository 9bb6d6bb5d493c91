"""Looking into a network while it runs, and leaving nothing behind."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Self

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
            stack.callback(module.register_forward_pre_hook(look).remove)
        for module, look in (after or {}).items():
            stack.callback(module.register_forward_hook(look).remove)
        yield


class Watching:
    """What looks into a network inside a `with` block, and leaves it as it was."""

    def looks(self) -> tuple[Mapping[Any, Look], Mapping[Any, Look]]:
        """What is called ahead of modules, and what behind them, as `hooked` takes them."""
        raise TypeError(f"{type(self).__name__} must override looks()")

    def __enter__(self) -> Self:
        self._hooks = ExitStack()
        self._hooks.enter_context(hooked(*self.looks()))
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.close()
