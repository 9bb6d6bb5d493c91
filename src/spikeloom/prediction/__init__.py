"""Trained networks put to use: a run folder or weights file, and samples in, classes out."""

from spikeloom.prediction.network import Network, Prediction, load

__all__ = ["Network", "Prediction", "load"]
