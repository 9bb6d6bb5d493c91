"""The linear maps of a simulation on spikes, at the cost of the neurons that fired.

A simulation applies the same weights to T steps of spikes and keeps no graph, so the weights are
laid out once, and each step is a sum of their rows at the active inputs (`spikeloom.synapses`).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from spikeloom.synapses import active
from spikeloom.synapses.conv import Geometry, conv_forward, conv_table
from spikeloom.synapses.linear import linear_forward

Map = Callable[[Tensor], Tensor]

DENSE = 0.2
"""The share of neurons that fire from which the dense map is faster (measured on convolutions of
64 to 256 channels)."""


def on_spikes(synapse: nn.Module) -> Map:
    """What `synapse` does to spikes `[B, ...]`, without a graph; for many calls, while its weights
    do not change. Sums are added up in another order than those of the dense map, which takes over
    where too many neurons fire, and where no kernel is for the device, dtype or kind of map."""
    weight = synapse.weight
    if (
        not isinstance(weight, Tensor)
        or type(weight.data) is not Tensor
        or weight.device.type != "cpu"
        or weight.dtype not in active.DTYPES
        or torch.is_autocast_enabled("cpu")
        or synapse._forward_hooks
        or synapse._forward_pre_hooks
    ):
        return synapse
    if isinstance(synapse, nn.Conv2d) and synapse.padding_mode == "zeros":
        return _convolution(synapse)
    return _linear(synapse) if isinstance(synapse, nn.Linear) else synapse


def _convolution(synapse: nn.Conv2d) -> Map:
    if isinstance(synapse.padding, str):
        return synapse
    sizes = (synapse.kernel_size, synapse.stride, synapse.padding, synapse.dilation)
    kernel, stride, padding, dilation = ((a, b) for a, b in sizes)
    geometry = Geometry(kernel, stride, padding, dilation, synapse.groups)
    table = conv_table(synapse.weight, synapse.groups)

    def convolve(x: Tensor) -> Tensor:
        last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        x = x if last else x.contiguous()
        counts = active.count(x)
        if counts.sum() > DENSE * x.numel() or x.dtype != synapse.weight.dtype:
            return synapse(x)
        lists = active.list_images(x, counts, synapse.groups)
        return conv_forward(x, lists, table, synapse.bias, geometry, last)

    return convolve


def _linear(synapse: nn.Linear) -> Map:
    by_input = synapse.weight.detach().t().contiguous().t()

    def product(x: Tensor) -> Tensor:
        x = x.contiguous()
        counts = active.count(x)
        if counts.sum() > DENSE * x.numel() or x.dtype != synapse.weight.dtype:
            return synapse(x)
        return linear_forward(x, active.list_rows(x, counts), by_input, synapse.bias)

    return product
