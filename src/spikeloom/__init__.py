"""spikeloom: deep spiking neural networks in PyTorch.

    import spikeloom as sl
    neuron = sl.PLIF(tau=2.0)
    spikes = neuron(x)              # x [T, B, ...] -> spikes [T, B, ...]

Names are imported when they are first used, so that the command line starts without loading torch:
every class that `spikeloom.neurons` imports, and what is listed below (see `lazy`).
"""

import importlib
from typing import TYPE_CHECKING, Any

from spikeloom import lazy
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

_NAMES = lazy.modules_of("spikeloom")
_NAMES.pop("*")
_MODULES = tuple(name for name, module in _NAMES.items() if module == "spikeloom")


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name not in _NAMES and name[0].isupper():
        # small names are asked for too, where a module of ours is imported
        value = getattr(importlib.import_module("spikeloom.neurons"), name, None)
        if isinstance(value, type):
            return value
    return lazy.load("spikeloom", _NAMES, name)


def __dir__() -> list[str]:
    return sorted([*importlib.import_module("spikeloom.neurons").__all__, *_NAMES, "__version__"])
