"""What a layer does in one call: worked out once for each combination of shapes and settings."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch

from spikeloom.synapses.conv import Geometry
from spikeloom.synapses.switch import Work, seems_small

Pair = int | tuple[int, ...] | list[int]
Shape = tuple[int, ...]


class Product(NamedTuple):
    """A layer's work; whether it is `small`, so that counting active inputs would not pay; and the
    geometry of a convolution."""

    work: Work
    small: bool
    geometry: Geometry | None = None


@lru_cache(maxsize=4096)
def convolution(
    x: Shape,
    weight: Shape,
    bias: Shape | None,
    dtype: torch.dtype,
    stride: Pair,
    padding: Pair | str,
    dilation: Pair,
    groups: int,
) -> Product | None:
    """The product of a convolution of images; None for any other, and where torch has to say what
    is wrong."""
    if len(x) != 4 or len(weight) != 4 or 0 in (*x, *weight):
        return None
    geometry = _geometry(weight, stride, padding, dilation, groups)
    if geometry is None or not (
        groups > 0
        and x[1] == weight[1] * groups
        and weight[0] % groups == 0
        and min(geometry.stride) > 0
        and min(geometry.padding) >= 0
        and min(geometry.dilation) > 0
        and min(geometry.output(x[2], x[3])) > 0
        and bias in (None, weight[:1])
    ):
        return None
    samples, channels, height, width = x
    high, wide = geometry.output(height, width)
    features, taps = weight[0], geometry.kernel[0] * geometry.kernel[1]
    outputs = samples * high * wide
    work = Work(
        "conv",
        samples * channels * height * width,
        taps * high * wide / (height * width),
        features // groups,
        outputs * features,
        outputs * features * (channels // groups) * taps,
        features * weight[1] * taps,
        dtype,
    )
    return Product(work, seems_small(work), geometry)


@lru_cache(maxsize=4096)
def linear_map(x: Shape, weight: Shape, bias: Shape | None, dtype: torch.dtype) -> Product | None:
    """The product of a linear layer; None where torch has to say what is wrong."""
    if len(x) < 2 or len(weight) != 2 or x[-1] != weight[1] or bias not in (None, weight[:1]):
        return None
    rows, (features, inputs) = math.prod(x[:-1]), weight
    if 0 in (rows, features, inputs):
        return None
    work = Work(
        "linear",
        rows * inputs,
        1,
        features,
        rows * features,
        rows * inputs * features,
        features * inputs,
        dtype,
    )
    return Product(work, seems_small(work))


@lru_cache(maxsize=4096)
def pooling(
    x: Shape, kernel_size: Pair, stride: Pair | None, padding: Pair, dilation: Pair
) -> tuple[int, int] | None:
    """The window of a pooling of images whose windows lie side by side and are not too large;
    None for any other."""
    window = _pair(kernel_size)
    steps = window if stride is None or stride == () else _pair(stride)
    if (
        window is not None
        and (steps, _pair(padding), _pair(dilation)) == (window, (0, 0), (1, 1))
        and len(x) == 4
        and x[1] >= 16
        and min(window) > 0
        and window[0] * window[1] <= 255
        and x[2] >= window[0]
        and x[3] >= window[1]
    ):
        return window
    return None


def _geometry(
    weight: Shape, stride: Pair, padding: Pair | str, dilation: Pair, groups: int
) -> Geometry | None:
    steps, gaps = _pair(stride), _pair(dilation)
    if steps is None or gaps is None:
        return None
    kernel = (weight[2], weight[3])
    if padding == "valid":
        return Geometry(kernel, steps, (0, 0), gaps, groups)
    if isinstance(padding, str):
        around = [gap * (size - 1) for gap, size in zip(gaps, kernel, strict=True)]
        if padding != "same" or steps != (1, 1) or any(size % 2 for size in around):
            return None
        return Geometry(kernel, steps, (around[0] // 2, around[1] // 2), gaps, groups)
    border = _pair(padding)
    return None if border is None else Geometry(kernel, steps, border, gaps, groups)


def _pair(value: Pair) -> tuple[int, int] | None:
    """Both numbers; None where torch has to say what is wrong."""
    if isinstance(value, int):
        return value, value
    return (int(value[0]), int(value[-1])) if len(value) in (1, 2) else None
