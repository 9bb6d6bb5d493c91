"""The kernels of max pooling, for images with the channel last in memory."""

# pyright: reportCallIssue=false
from numba import types

from spikeloom.compiler.cpu.jit import driver
from spikeloom.synapses.vectors import (
    chosen_lines1,
    chosen_lines16,
    chosen_lines16_past_cache,
    max_lines1,
    max_lines16,
)


@driver
def max_pool(first, last, x, out, places, height, width, channels, window_h, window_w):
    """Images `[height, width, channels]` of `x`: the first maximum of each window, and its place.

    NaN is larger than everything, as in torch.
    """
    high = height // window_h
    wide = width // window_w
    line = width * channels
    for n in range(first, last):
        for i in range(high):
            for j in range(wide):
                source = ((n * height + i * window_h) * width + j * window_w) * channels
                target = ((n * high + i) * wide + j) * channels
                c = 0
                while c + 16 <= channels:
                    max_lines16(
                        x, source + c, line, channels, window_h, window_w, out, target + c, places
                    )
                    c += 16
                while c < channels:
                    max_lines1(
                        x, source + c, line, channels, window_h, window_w, out, target + c, places
                    )
                    c += 1


@driver
def max_pool_gradient(
    first, last, g, out, places, height, width, channels, window_h, window_w, past_cache
):
    """`past_cache`: `out` is large, and its pixels are whole lines of memory."""
    high = height // window_h
    wide = width // window_w
    for n in range(first, last):
        for h in range(height):
            i = h // window_h
            row = (n * height + h) * width * channels
            inside = wide * window_w if i < high else 0
            for w in range(inside):
                mine = types.uint8((h % window_h) * window_w + w % window_w)
                source = ((n * high + i) * wide + w // window_w) * channels
                target = row + w * channels
                c = 0
                if past_cache:
                    while c < channels:
                        chosen_lines16_past_cache(g, source + c, places, out, target + c, mine)
                        c += 16
                while c + 16 <= channels:
                    chosen_lines16(g, source + c, places, out, target + c, mine)
                    c += 16
                while c < channels:
                    chosen_lines1(g, source + c, places, out, target + c, mine)
                    c += 1
            for k in range(row + inside * channels, row + width * channels):
                out[k] = 0
