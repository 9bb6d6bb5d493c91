"""numba's machine code in the kernel cache.

In place of numba's own cache, which reads what it finds without a check sum, leaves an index that
a power cut can empty, and follows NUMBA_CACHE_DIR to wherever it points.
"""

import hashlib
import pickle
from collections.abc import Callable
from typing import Any

from numba.core import serialize
from numba.core.compiler import CompileResult

from spikeloom.compiler import cache


class MachineCode:
    """The cache of one function, as a numba dispatcher asks for it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.cache_path = ""  # what `stats` of a dispatcher asks for
        self._module = function.__module__
        """Its name is a hash of everything that the code depends on, but for the signature."""
        self._function = function.__name__

    def load_overload(self, sig: object, target_context: Any) -> CompileResult | None:
        target_context.refresh()  # numba registers what a kernel may call
        name = self._name(sig, target_context.codegen())
        content = cache.read(name)
        if content is None:
            return None
        try:
            return CompileResult._rebuild(target_context, *pickle.loads(content))
        except Exception:  # written whole, and still not what this numba can use
            cache.set_aside(name)
            return None

    def save_overload(self, sig: object, data: Any) -> None:
        cache.write(self._name(sig, data.codegen), serialize.dumps(data._reduce()))

    def _name(self, sig: object, codegen: Any) -> str:
        target = repr((self._function, sig, codegen.magic_tuple())).encode()
        return f"{self._module}-{hashlib.sha256(target).hexdigest()[:16]}.nbc"
