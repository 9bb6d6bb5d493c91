"""`spikingjelly.cext.neuron`, the CUDA extension of 0.0.0.0.4 to 0.0.0.0.12: the same nodes, with
the surrogate by its name. It had hard reset only, and kernels for ATan and Sigmoid.
"""

from typing import Any

from spikeloom.compat.spikingjelly.charges import namespace as nodes_of
from spikeloom.compat.spikingjelly.dialects import dialect
from spikeloom.compat.spikingjelly.nodes import MultiStep
from spikeloom.compat.spikingjelly.surrogates import namespace as surrogates_of

_TAIL = {"v_threshold": 1.0, "v_reset": 0.0, "surrogate_function": "ATan", "alpha": 2.0}
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "IFNode": {},
    "LIFNode": {"tau": 100.0, "detach_input": False},
    "ParametricLIFNode": {"init_tau": 2.0, "detach_input": False},
}


class ByName:
    """A node that takes `surrogate_function="ATan", alpha=2.0`."""

    surrogates: dict[str, Any]

    def _bound(self, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
        values = super()._bound(args, options)  # type: ignore[misc]
        name, alpha = values["surrogate_function"], values.pop("alpha")
        if name not in ("ATan", "Sigmoid"):
            raise ValueError(f"surrogate_function={name!r}: cext has 'ATan' and 'Sigmoid'")
        if values["v_reset"] is None:
            raise NotImplementedError("v_reset=None: cext has no soft reset")
        if values.pop("detach_input", False):
            raise NotImplementedError("detach_input=True: use clock_driven, or sl.LIF")
        return {**values, "surrogate_function": self.surrogates[name](alpha)}


def namespace() -> dict[str, Any]:
    """The names of `cext.neuron`."""
    habits = dialect("0.0.0.0.12")
    surrogates = surrogates_of(habits)
    nodes = nodes_of(habits, surrogates)
    shared = {"__module__": f"{__name__.rpartition('.')[0]}.cext.neuron", "surrogates": surrogates}
    classes: dict[str, Any] = {}
    for name, defaults in _ARGUMENTS.items():
        arguments = {**defaults, **_TAIL, "detach_reset": False}
        members = {**shared, "arguments": arguments, "decay_input": True}
        classes[name] = type(name, (ByName, nodes[name]), members)
        classes[f"MultiStep{name}"] = type(f"MultiStep{name}", (MultiStep, classes[name]), shared)
    classes["BaseNode"] = nodes["BaseNode"]
    return classes
