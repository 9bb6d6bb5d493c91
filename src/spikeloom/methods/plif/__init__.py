"""PLIF: spiking networks with learned membrane time constants (Fang et al., ICCV 2021)."""

from spikeloom.methods.base import Method
from spikeloom.methods.plif.config import PlifNetwork

method = Method(
    name="plif",
    title="Learnable membrane time constants (Fang et al., ICCV 2021)",
    network=PlifNetwork,
    builder="spikeloom.methods.plif.networks:build",
)
