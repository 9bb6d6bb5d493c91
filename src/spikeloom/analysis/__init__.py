"""Figures about a network: firing rates, constants, operations, traces, latency, decisions.

Nothing here knows a method or the trainer; every function takes a module and the inputs to run it
on. A name below is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spikeloom.analysis.constants import learned_constants
    from spikeloom.analysis.decisions import DecisionCounter, Decisions, time_delay
    from spikeloom.analysis.distributions import Spread, constant_distributions
    from spikeloom.analysis.first_spike import first_spike_times
    from spikeloom.analysis.health import Health, diagnose, idle_parameters
    from spikeloom.analysis.latency import LatencyCourse
    from spikeloom.analysis.operations import (
        EnergyConstants,
        LayerOperations,
        Operations,
        SynapticOperations,
    )
    from spikeloom.analysis.rates import FiringRates, SpikeCount
    from spikeloom.analysis.statistics import mean_and_deviation, wilson
    from spikeloom.analysis.traces import LayerTrace, trace

_HOMES = {
    "DecisionCounter": "decisions",
    "Decisions": "decisions",
    "EnergyConstants": "operations",
    "FiringRates": "rates",
    "LatencyCourse": "latency",
    "LayerOperations": "operations",
    "LayerTrace": "traces",
    "Operations": "operations",
    "SpikeCount": "rates",
    "Spread": "distributions",
    "SynapticOperations": "operations",
    "Health": "health",
    "constant_distributions": "distributions",
    "diagnose": "health",
    "idle_parameters": "health",
    "first_spike_times": "first_spike",
    "learned_constants": "constants",
    "mean_and_deviation": "statistics",
    "time_delay": "decisions",
    "trace": "traces",
    "wilson": "statistics",
}

__all__ = [
    "DecisionCounter",
    "Decisions",
    "EnergyConstants",
    "FiringRates",
    "Health",
    "LatencyCourse",
    "LayerOperations",
    "LayerTrace",
    "Operations",
    "SpikeCount",
    "Spread",
    "SynapticOperations",
    "constant_distributions",
    "diagnose",
    "first_spike_times",
    "idle_parameters",
    "learned_constants",
    "mean_and_deviation",
    "time_delay",
    "trace",
    "wilson",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
