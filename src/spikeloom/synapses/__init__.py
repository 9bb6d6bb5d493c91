"""Synapses that work only where a neuron fired: sums over the active inputs of a layer."""
