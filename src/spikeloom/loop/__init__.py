"""A run folder for a training loop of one's own: `spikeloom.Run`."""

from spikeloom.loop.run import Run

__all__ = ["Run"]
