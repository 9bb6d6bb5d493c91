"""Networks for other runtimes: ONNX, torch.export, plain C, NIR, safetensors."""

from spikeloom.exchange.c import CNetwork, CSource, c_source
from spikeloom.exchange.writing import ExportResult, export

__all__ = ["CNetwork", "CSource", "ExportResult", "c_source", "export"]
