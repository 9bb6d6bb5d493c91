"""How generated functions are compiled: the numba options, in one place.

`segment` is a loop over elements whose bits must equal PyTorch's: no fast-math flag at all.
`adjoint` may reorder sums (`reassoc`), or its reductions would not vectorise; `sums`, of rows of a
matrix, may multiply and add in one (`contract`) as matrix products do. `driver` is the
function that Python calls, and whose machine code is kept.

Arguments of a segment never overlap. LLVM has to be told (`noalias`), or it gives up on loops over
a dozen arrays; numba can say it but does not list the option, so it is added to the list here.
Where a numba release lacks it, kernels are right but slow, and a test says so.
"""

from collections.abc import Callable
from typing import Any

from numba import njit

from spikeloom.compiler.cpu.machine_code import MachineCode

_options: dict[str, Any] = {"error_model": "numpy"}
try:
    from numba.core.options import TargetOptions
    from numba.core.registry import cpu_target

    cpu_target.options.noalias = TargetOptions.Mapping("noalias")  # type: ignore[attr-defined]
    _options["noalias"] = True
except (ImportError, AttributeError):
    pass

segment = njit(**_options)
adjoint = njit(fastmath={"reassoc"}, **_options)
sums = njit(fastmath={"reassoc", "contract"}, **_options)


def driver(function: Callable[..., Any]) -> Any:
    dispatcher: Any = njit(nogil=True, error_model="numpy")(function)
    dispatcher._cache = MachineCode(function)
    return dispatcher
