"""Synapses that work only where a neuron fired: sums over the active inputs of a layer."""

from spikeloom.synapses.explain import explain
from spikeloom.synapses.switch import sparse

__all__ = ["explain", "sparse"]
