"""First-spike coding: the class is the output neuron that fires first (Liu et al., 2023)."""

from spikeloom.methods.base import Method
from spikeloom.methods.fs.config import FsNetwork

method = Method(
    name="fs",
    title="First-spike coding (Liu, Leung, Dragotti, Frontiers in Neuroscience 2023)",
    network=FsNetwork,
    builder="spikeloom.methods.fs.networks:build",
    importer="spikeloom.methods.fs.importing:read_checkpoint",
)
