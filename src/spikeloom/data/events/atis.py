"""The .bin files of N-MNIST, from an ATIS camera before a picture of 34x34 pixels.

5 bytes per event: x, y, then 24 bits, big-endian: polarity (bit 23) and microseconds (bits 0-22).
Source: Orchard et al., Front. Neurosci. 2015.
"""

import numpy as np

from spikeloom.data.events.array import Events, events
from spikeloom.errors import DataError

SIZE = (2, 34, 34)


def read_bin(
    data: bytes, source: object = "N-MNIST data", size: tuple[int, int, int] = SIZE
) -> Events:
    """Events of one .bin file from a sensor of `size`."""
    if len(data) % 5:
        raise DataError(
            f"{source}: {len(data)} bytes, expected a multiple of 5; "
            f"the file is cut short after record {len(data) // 5}"
        )
    rows = np.frombuffer(data, np.uint8).reshape(-1, 5)
    t = (
        ((rows[:, 2] & 127).astype(np.int64) << 16)
        | (rows[:, 3].astype(np.int64) << 8)
        | rows[:, 4]
    )
    return events(t, rows[:, 0], rows[:, 1], rows[:, 2] >> 7, size, source=source)
