"""GLIF: gated leaky integrate-and-fire neurons in residual networks (Yao et al., NeurIPS 2022)."""

from spikeloom.methods.base import Method
from spikeloom.methods.glif.config import GlifNetwork

method = Method(
    name="glif",
    title="Gated leaky integrate-and-fire neurons (Yao et al., NeurIPS 2022)",
    network=GlifNetwork,
    builder="spikeloom.methods.glif.networks:build",
    importer="spikeloom.methods.glif.importing:read_checkpoint",
)
