"""DSR: spiking networks trained by differentiation on their spike representation (Meng et al.,
CVPR 2022)."""

from spikeloom.methods.base import Method
from spikeloom.methods.dsr.config import DsrNetwork

method = Method(
    name="dsr",
    title="Differentiation on spike representation (Meng et al., CVPR 2022)",
    network=DsrNetwork,
    builder="spikeloom.methods.dsr.networks:build",
    importer="spikeloom.methods.dsr.importing:read_checkpoint",
)
