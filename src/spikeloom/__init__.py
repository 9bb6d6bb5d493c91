"""spikeloom: deep spiking neural networks in PyTorch.

    import spikeloom as sl
    neuron = sl.PLIF(tau=2.0)
    spikes = neuron(x)              # x [T, B, ...] -> spikes [T, B, ...]

Names are imported when they are first used, so that the command line starts without loading torch:
every class that `spikeloom.neurons` imports, and what `_HOMES` lists.
"""

import importlib
from typing import TYPE_CHECKING, Any

from spikeloom.version import __version__ as __version__

if TYPE_CHECKING:
    from spikeloom import analysis as analysis
    from spikeloom import data as data
    from spikeloom import neurons as neurons
    from spikeloom import nn as nn
    from spikeloom import plot as plot
    from spikeloom import report as report
    from spikeloom import testing as testing
    from spikeloom import training as training
    from spikeloom.exchange import export as export
    from spikeloom.exchange import from_nir as from_nir
    from spikeloom.exchange import to_nir as to_nir
    from spikeloom.front import recipes as recipes
    from spikeloom.front import train as train
    from spikeloom.loop import Run as Run
    from spikeloom.neurons import *  # noqa: F403
    from spikeloom.nn.inference import inference as inference
    from spikeloom.prediction import load as load
    from spikeloom.report import compare as compare
    from spikeloom.synapses import explain as explain
    from spikeloom.synapses import sparse as sparse
    from spikeloom.training import evaluate as evaluate

_MODULES = ("analysis", "data", "neurons", "nn", "plot", "report", "testing", "training")
_HOMES = {
    "Run": "spikeloom.loop:Run",
    "compare": "spikeloom.report:compare",
    "evaluate": "spikeloom.training:evaluate",
    "export": "spikeloom.exchange:export",
    "from_nir": "spikeloom.exchange:from_nir",
    "to_nir": "spikeloom.exchange:to_nir",
    "inference": "spikeloom.nn.inference:inference",
    "load": "spikeloom.prediction:load",
    "recipes": "spikeloom.front:recipes",
    "train": "spikeloom.front:train",
    "explain": "spikeloom.synapses:explain",
    "sparse": "spikeloom.synapses:sparse",
    **{name: f"spikeloom.{name}:" for name in _MODULES},
}
"""Public names that are not neurons: their module, and their name in it (none: the module)."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        module, _, attribute = _HOMES[name].partition(":")
        home = importlib.import_module(module)
        return getattr(home, attribute) if attribute else home
    if name == "__all__":
        return __dir__()
    if name[0].isupper():  # small names are asked for too, where a module of ours is imported
        value = getattr(importlib.import_module("spikeloom.neurons"), name, None)
        if isinstance(value, type):
            return value
    raise AttributeError(f"module 'spikeloom' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*importlib.import_module("spikeloom.neurons").__all__, *_HOMES, "__version__"])
