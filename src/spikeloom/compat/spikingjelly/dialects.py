"""What differs between the versions of SpikingJelly that published code was written for."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Dialect:
    """One version's habits.

    `single` (clock_driven): a node takes one step and `MultiStep*` classes take all of them;
    otherwise (activation_based) `step_mode` says. `sigmoid_alpha`, `lif_tau`: defaults.
    `decays_input`: `LIFNode` knows `decay_input`. `keeps_spike`: the last spike stays as
    `node.spike`, and methods of a node hand it on there. `quiet_eval`: a surrogate is a plain step
    function in evaluation mode. `buffers_alpha`: steepness is a buffer, and so in state dicts.
    `learns_alpha`: `ATan(learnable=True)`. `monitors`: nodes take `monitor_state`. `restores`:
    `reset()` also puts threshold and reset potential back. `deaf_eval`: IF and LIF pass no gradient
    in evaluation mode.
    `refits`: a state of another shape than the input begins anew instead of being an error.
    """

    version: str
    single: bool
    sigmoid_alpha: float = 4.0
    lif_tau: float = 2.0
    decays_input: bool = True
    keeps_spike: bool = False
    quiet_eval: bool = False
    buffers_alpha: bool = False
    learns_alpha: bool = False
    monitors: bool = False
    restores: bool = False
    deaf_eval: bool = False
    refits: bool = False
    wraps_layers: bool = False
    """`SeqToANNContainer` keeps one layer as `module`, several as a Sequential of that name."""

    @property
    def package(self) -> str:
        return "clock_driven" if self.single else "activation_based"

    @property
    def number(self) -> int:
        """The last part of the version, 100 for 2.0."""
        return 100 if self.version.startswith("2") else int(self.version.rsplit(".", 1)[1])


_FIRST = Dialect(
    "0.0.0.0.4",
    single=True,
    sigmoid_alpha=1.0,
    lif_tau=100.0,
    decays_input=False,
    keeps_spike=True,
    quiet_eval=True,
    buffers_alpha=True,
    monitors=True,
    wraps_layers=True,
)
_SIXTH = Dialect(
    "0.0.0.0.6",
    single=True,
    sigmoid_alpha=1.0,
    decays_input=False,
    keeps_spike=True,
    wraps_layers=True,
)
_TWELFTH = Dialect("0.0.0.0.12", single=True, restores=True)
_LATER = Dialect("0.0.0.0.14", single=False, deaf_eval=True)

_EXACT = [
    replace(_FIRST, version="0.0.0.0.2", keeps_spike=False, buffers_alpha=False, learns_alpha=True),
    replace(_FIRST, version="0.0.0.0.3"),
    _FIRST,
    _SIXTH,
    replace(_SIXTH, version="0.0.0.0.8", wraps_layers=False),
    replace(_TWELFTH, version="0.0.0.0.10"),
    _TWELFTH,
    _LATER,
    Dialect("2.0.0", single=False, refits=True),
]
DIALECTS = {dialect.version: dialect for dialect in _EXACT}
"""Each was held against the released package of that number."""

_NEXT = {"0.0.0.0.5": "6", "0.0.0.0.7": "8", "0.0.0.0.9": "10", "0.0.0.0.11": "12"}
_NEXT |= {"0.0.0.0.13": "14"}
"""Versions without a package in the registry, as the next one that has."""

DEFAULTS = {"clock_driven": "0.0.0.0.12", "activation_based": "0.0.0.0.14"}
"""What a package speaks where no version is asked for: the last one that had it, before 2.0."""


def dialect(version: str) -> Dialect:
    """The habits of `version`; ValueError with those that are known."""
    version = f"0.0.0.0.{_NEXT[version]}" if version in _NEXT else version
    if version not in DIALECTS:
        known = ", ".join([*DIALECTS, *_NEXT])
        raise ValueError(f"SpikingJelly {version!r}: expected one of {known}")
    return DIALECTS[version]
