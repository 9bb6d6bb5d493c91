"""The small network of `methods.compact` with DSR's neurons."""

from collections.abc import Callable

from torch import Tensor, nn

from spikeloom.data.base import DataSpec
from spikeloom.methods.compact import CompactBody
from spikeloom.methods.dsr.config import DsrNetwork
from spikeloom.methods.dsr.resnet import batch_norm


class Compact(nn.Module):
    """`[T, B, C, H, W]`, an image at all T -> `[T, B, classes]`; width `network.channels`."""

    def __init__(
        self, network: DsrNetwork, data: DataSpec, activation: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.body = CompactBody(
            data, network.channels, norm=batch_norm, neuron=lambda _: activation()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x[0], len(x))
