"""The input gradient of a 3x3 convolution by Winograd's minimal algorithm: see `winograd_kernels`.

    gx[n, c, q] = sum over o and taps k of  g[n, o, q - k + padding] w[o, c, k]

Behind a BatchNorm every place of the output's gradient counts, and no list helps; 2.25 times fewer
products do. Each sum is made by one thread, in an order that depends on the shape of the weight
alone.
"""

import numpy as np
import torch
from torch import Tensor

from spikeloom.compiler.cpu.threads import share
from spikeloom.synapses.active import flat, kernels, lanes
from spikeloom.synapses.conv import Geometry
from spikeloom.synapses.memory import workspace

TILES = 48
"""That are taken through the 16 products together, a multiple of 12: their transformations, of 128
channels, stay in the second-level cache."""

MOST = 0.85
"""Of the estimated time of torch's gradient."""

PRODUCT, ELEMENT, WEIGHT = 0.017, 0.5, 2.0
"""Nanoseconds on one thread, float32: of a product and its sum, of an element of a gradient that is
transformed, and of a weight."""


def takes(grad: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Whether there is a kernel, and a gain (small images are mostly border, few channels mostly
    transformation)."""
    features, channels = weight.shape[:2]
    vector = lanes(weight.dtype)
    fits = (
        geometry.kernel == (3, 3)
        and geometry.stride == geometry.dilation == (1, 1)
        and geometry.groups == 1
        and max(geometry.padding) <= 2
        and grad.dtype == weight.dtype
        and grad.dtype in (torch.float32, torch.float64)
        and features % vector == 0
        and channels % (2 * vector) == 0
        and grad.numel() > 0
    )
    if not fits:
        return False
    pairs = features * channels
    high, wide = (
        size + 2 - 2 * pad for size, pad in zip(grad.shape[2:], geometry.padding, strict=True)
    )
    tiles = len(grad) * ((high + 1) // 2) * ((wide + 1) // 2)
    dense = PRODUCT * 9 * pairs * len(grad) * grad.shape[2] * grad.shape[3]
    elements = 4 * tiles * (features + channels)
    ours = PRODUCT * 16 * pairs * (-(-tiles // 12) * 12) + ELEMENT * elements + WEIGHT * 9 * pairs
    return ours < MOST * dense


def input_gradient(
    grad: Tensor, weight: Tensor, geometry: Geometry, height: int, width: int
) -> Tensor:
    """`grad` `[N, O, high, wide]`, `weight` `[O, C, 3, 3]` -> `[N, C, height, width]`, the channel
    last in memory."""
    samples, features, high, wide = grad.shape
    channels, dtype = weight.shape[1], grad.dtype
    g = flat(grad.permute(0, 2, 3, 1).contiguous())
    by_output = flat(weight.detach().permute(0, 2, 3, 1).contiguous())
    table = workspace("winograd", 16 * features * channels, g.dtype)
    out = torch.empty(
        samples, channels, height, width, dtype=dtype, memory_format=torch.channels_last
    )
    target = flat(out.permute(0, 2, 3, 1))
    tiles = samples * ((height + 1) // 2) * ((width + 1) // 2)
    before = [2 - pad for pad in geometry.padding]
    module = kernels("winograd")
    gap = lanes(dtype)
    panel = 2 * gap

    def work(first: int, last: int) -> None:
        module.convolve(
            *(first, last, g, target, table),
            *(np.zeros(features, g.dtype), np.empty(channels, g.dtype)),
            workspace("winograd inputs", 16 * TILES * (features + gap), g.dtype),
            workspace("winograd sums", 16 * TILES * (channels + gap), g.dtype),
            *(TILES, high, wide, features, height, width, channels, *before),
            *(panel, gap),
        )

    laid_out = by_output, table, features, channels, panel
    share(module.transform, features, len(table), *laid_out)
    share(work, -(-tiles // TILES), out.numel() * 100)
    return out
