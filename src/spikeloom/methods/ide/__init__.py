"""IDE: feedback spiking networks trained at their equilibrium (Xiao et al., NeurIPS 2021)."""

from spikeloom.methods.base import Method
from spikeloom.methods.ide.config import IdeNetwork

method = Method(
    name="ide",
    title="Implicit differentiation at the equilibrium (Xiao et al., NeurIPS 2021)",
    network=IdeNetwork,
    builder="spikeloom.methods.ide.networks:build",
    importer="spikeloom.methods.ide.importing:read_checkpoint",
)
