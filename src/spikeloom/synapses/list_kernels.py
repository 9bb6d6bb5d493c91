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
from spikeloom.compiler.cpu.jit import driver
from spikeloom.synapses.rows import count_nonzero, list_nonzero
from spikeloom.synapses.vectors import widened


@driver
def count_rows(first, last, x, size, counts):
    """The nonzeros of each row of `size` elements."""
    for r in range(first, last):
        counts[r] = count_nonzero(x, r * size, size)


@driver
def list_rows(first, last, x, size, start, index, values, one):
    for r in range(first, last):
        k = start[r]
        list_nonzero(x, r * size, size, 0, index, k)
        for j in range(k, start[r + 1]):
            values[j] = widened(x, r * size + index[j])
        for j in range(k, start[r + 1]):
            one[r] &= values[j] == values[k]


@driver
def list_channels_last(
    first, last, x, height, width, groups, channels, start, ends, index, values, one
):
    """The lists of images `[H, W, groups * channels]`; `one[n]`: all their values are the same."""
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
            one[n] &= values[j] == values[begin]


@driver
def list_channels_first(
    first, last, x, height, width, groups, channels, start, ends, index, values, one, scratch, fill
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
            one[n] &= values[j] == values[begin]


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
def fill_images(first, last, start, ends, index, width, pixels, channels, out):
    """Ones in the images `[H, W, channels]`, of zeros, at what is listed."""
    for n in range(first, last):
        at = n * (pixels + 1)
        for p in range(pixels):
            place = (n * pixels + p) * channels - (p % width) * channels
            for j in range(start[n] + ends[at + p], start[n] + ends[at + p + 1]):
                out[place + index[j]] = 1
