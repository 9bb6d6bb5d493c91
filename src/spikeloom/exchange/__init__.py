"""Networks for other runtimes: ONNX, torch.export, plain C, NIR, safetensors."""

from spikeloom.exchange.c import CNetwork, CSource, c_source
from spikeloom.exchange.nir import to_nir
from spikeloom.exchange.nir_reading import from_nir
from spikeloom.exchange.writing import ExportResult, export

__all__ = ["CNetwork", "CSource", "ExportResult", "c_source", "export", "from_nir", "to_nir"]
