"""The .bin files of N-MNIST, from an ATIS camera before a picture of 34x34 pixels.

5 bytes per event: x, y, then 24 bits, big-endian: polarity (bit 23) and microseconds (bits 0-22).
Source: Orchard et al., Front. Neurosci. 2015.
"""

import numpy as np

from spikeloom.data.events.array import Events, events
from spikeloom.errors import DataError

SIZE = (2, 34, 34)


def read_bin(data: bytes, source: object = "N-MNIST data") -> Events:
    """Events of one .bin file."""
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
    return events(t, rows[:, 0], rows[:, 1], rows[:, 2] >> 7, SIZE, source=source)


def write_bin(recording: Events) -> bytes:
    """The content of a .bin file that `read_bin` reads back; times must fit 23 bits."""
    if len(recording) and not 0 <= recording.t.min() <= recording.t.max() < 1 << 23:
        raise DataError(
            f"times run from {recording.t.min()} to {recording.t.max()} us, "
            f"an N-MNIST file holds 0 to {(1 << 23) - 1}; cut the recording or shift it"
        )
    rows = np.empty((len(recording), 5), np.uint8)
    rows[:, 0], rows[:, 1] = recording.x, recording.y
    rows[:, 2] = (recording.t >> 16) | (recording.p.astype(np.int64) << 7)
    rows[:, 3], rows[:, 4] = (recording.t >> 8) & 255, recording.t & 255
    return rows.tobytes()
