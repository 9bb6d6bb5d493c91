"""Figures about a network: firing rates, constants, operations, traces, latency, decisions.

Nothing here knows a method or the trainer; every function takes a module and the inputs to run it
on. A name below is imported when it is first used.
"""

from typing import TYPE_CHECKING

from spikeloom import lazy

if TYPE_CHECKING:
    from spikeloom.analysis.constants import Spread as Spread
    from spikeloom.analysis.constants import constant_distributions as constant_distributions
    from spikeloom.analysis.constants import learned_constants as learned_constants
    from spikeloom.analysis.decisions import DecisionCounter as DecisionCounter
    from spikeloom.analysis.decisions import Decisions as Decisions
    from spikeloom.analysis.decisions import LatencyCourse as LatencyCourse
    from spikeloom.analysis.decisions import first_spike_times as first_spike_times
    from spikeloom.analysis.decisions import time_delay as time_delay
    from spikeloom.analysis.health import Health as Health
    from spikeloom.analysis.health import diagnose as diagnose
    from spikeloom.analysis.health import idle_parameters as idle_parameters
    from spikeloom.analysis.monitors import Course as Course
    from spikeloom.analysis.monitors import LiveRates as LiveRates
    from spikeloom.analysis.monitors import Monitor as Monitor
    from spikeloom.analysis.operations import EnergyConstants as EnergyConstants
    from spikeloom.analysis.operations import LayerOperations as LayerOperations
    from spikeloom.analysis.operations import Operations as Operations
    from spikeloom.analysis.operations import SynapticOperations as SynapticOperations
    from spikeloom.analysis.rates import FiringRates as FiringRates
    from spikeloom.analysis.rates import SpikeCount as SpikeCount
    from spikeloom.analysis.statistics import mean_and_deviation as mean_and_deviation
    from spikeloom.analysis.statistics import wilson as wilson
    from spikeloom.analysis.traces import LayerTrace as LayerTrace
    from spikeloom.analysis.traces import trace as trace

__getattr__, __dir__ = lazy.names(__name__)
