"""Lists of the active inputs of images and rows.

For a convolution a list is kept by group and pixel:

    start[n]                 where the list of image n begins in `index` and `values`
    ends[n, g, p]            where that of pixel p of group g begins, counted from start[n]
                             (one more at the end of each group)
    index[...]               column * channels + channel, so that the pixels of an image row that a
                             kernel row covers are one run of the list, and one run of table rows

and for a linear layer by row: `start[r]` and the numbers of its active features.
"""

# pyright: reportCallIssue=false
import numpy as np

from spikeloom.compiler.cpu.jit import driver
from spikeloom.synapses.nonzero import count_nonzero, list_nonzero
from spikeloom.synapses.vectors import widened

u8 = np.uint64


@driver
def count_rows(first, last, x, size, counts):
    """The nonzeros of each row of `size` elements."""
    for r in range(first, last):
        counts[r] = count_nonzero(x, r * size, size)


@driver
def list_rows(first, last, x, size, start, index, values, same):
    for r in range(first, last):
        k = start[r]
        list_nonzero(x, r * size, size, 0, index, k)
        for j in range(k, start[r + 1]):
            values[j] = widened(x, r * size + index[j])
        for j in range(k, start[r + 1]):
            same[r] &= values[j] == values[k]


@driver
def list_channels_last(
    first, last, x, height, width, groups, channels, start, ends, index, values, same
):
    """The lists of images `[H, W, groups * channels]`; `same[n]`: all their values are the same."""
    pixels = height * width
    for n in range(first, last):
        image = n * pixels * groups * channels
        begin = start[n]
        k = begin
        for g in range(groups):
            at = (n * groups + g) * (pixels + 1)
            for p in range(pixels):
                ends[at + p] = k - begin
                column = (p % width) * channels
                source = image + (p * groups + g) * channels
                e = list_nonzero(x, source, channels, column, index, k)
                for j in range(k, e):
                    values[j] = widened(x, source + index[j] - column)
                k = e
            ends[at + pixels] = k - begin
        for j in range(begin, k):
            same[n] &= values[j] == values[begin]


@driver
def list_channels_first(
    first, last, x, height, width, groups, channels, start, ends, index, values, same, scratch, fill
):
    """The same of images `[groups * channels, H, W]`: listed by channel, then sorted by pixel.

    `scratch`: integers, as many as the largest image has elements; `fill`: as many as pixels.
    """
    pixels = height * width
    for n in range(first, last):
        begin = start[n]
        done = 0
        for g in range(groups):
            at = (n * groups + g) * (pixels + 1)
            plane = (n * groups + g) * channels * pixels
            for p in range(pixels + 1):
                ends[at + p] = 0
            for c in range(channels):
                for j in range(list_nonzero(x, plane + c * pixels, pixels, 1, scratch, 0)):
                    ends[at + scratch[j]] += 1
            ends[at] = done
            for p in range(pixels):
                ends[at + p + 1] += ends[at + p]
                fill[p] = begin + ends[at + p]
            for c in range(channels):
                source = plane + c * pixels
                for j in range(list_nonzero(x, source, pixels, 0, scratch, 0)):
                    p = scratch[j]
                    k = fill[p]
                    index[k] = (p % width) * channels + c
                    values[k] = widened(x, source + p)
                    fill[p] = k + 1
            done = ends[at + pixels]
        for j in range(begin, begin + done):
            same[n] &= values[j] == values[begin]


@driver
def flatten_lists(first, last, start, ends, index, width, pixels, channels, new_start, flat):
    """The lists of images as lists of rows, of features `pixel * channels + channel`."""
    for n in range(first, last):
        at = n * (pixels + 1)
        k = new_start[n]
        for p in range(pixels):
            further = p * channels - (p % width) * channels
            for j in range(start[n] + ends[at + p], start[n] + ends[at + p + 1]):
                flat[k] = index[j] + further
                k += 1


@driver
def take_constant(
    first, last, steps, pixels, width, channels, start, ends, index, constant_ends, constant, times
):
    """Samples `first` to `last`, each of `steps` images of ones: what is active in all of them is
    taken out of their lists, and listed once, as an image of its own that begins where the list of
    the sample's first image does. `times`: `channels` small integers, and two for each step."""
    read = channels
    write = channels + steps
    for sample in range(first, last):
        image = sample * steps
        begin = start[image]
        k = begin
        for t in range(2 * steps):
            times[read + t] = 0
        for p in range(pixels):
            column = (p % width) * channels
            constant_ends[sample * (pixels + 1) + p] = k - begin
            for c in range(u8(channels)):
                times[c] = 0
            for t in range(steps):
                base = start[image + t]
                for j in range(
                    base + times[read + t], base + ends[(image + t) * (pixels + 1) + p + 1]
                ):
                    times[index[j] - column] += 1
            for j in range(begin + times[read], begin + ends[image * (pixels + 1) + p + 1]):
                constant[k] = index[j]
                k += times[index[j] - column] == steps
            for t in range(steps):
                base = start[image + t]
                at = (image + t) * (pixels + 1) + p
                goal = times[write + t]
                ends[at] = goal
                for j in range(base + times[read + t], base + ends[at + 1]):
                    here = index[j]
                    index[base + goal] = here
                    goal += times[here - column] != steps
                times[read + t] = ends[at + 1]
                times[write + t] = goal
        constant_ends[sample * (pixels + 1) + pixels] = k - begin
        for t in range(steps):
            ends[(image + t) * (pixels + 1) + pixels] = times[write + t]


@driver
def fill_images(first, last, times, start, ends, index, width, pixels, channels, out):
    """Ones in the images `[H, W, channels]`, of zeros, at what is listed: the list of image n in
    `times` of them."""
    for n in range(first, last):
        at = n * (pixels + 1)
        for p in range(pixels):
            column = (p % width) * channels
            for t in range(times):
                place = ((n * times + t) * pixels + p) * channels - column
                for j in range(start[n] + ends[at + p], start[n] + ends[at + p + 1]):
                    out[place + index[j]] = 1
