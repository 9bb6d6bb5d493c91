"""Small files in the publishers' formats, made for tests."""

import io
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np

from spikeloom.data.events.array import Events, events

TRIAL = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"
MAT_TYPES = {"int8": 1, "uint8": 2, "int16": 3, "uint16": 4, "int32": 5, "float64": 9}
MAT_CLASSES = {"int8": 8, "uint8": 9, "int16": 10, "uint16": 11, "int32": 12, "float64": 6}


def mat_v5(name: str, fields: dict[str, np.ndarray], *, compressed: bool = True) -> bytes:
    """A MAT file of version 5 with one struct of numeric columns."""
    width = 32
    names = b"".join(field.encode().ljust(width, b"\0") for field in fields)
    content = _matrix_head(2, (1, 1), name)
    content += _element(5, struct.pack("<i", width)) + _element(1, names)
    for values in fields.values():
        kind = str(values.dtype)
        body = _matrix_head(MAT_CLASSES[kind], (values.size, 1), "")
        content += _element(14, body + _element(MAT_TYPES[kind], values.tobytes(order="F")))
    matrix = _element(14, content)
    if compressed:
        import zlib

        packed = zlib.compress(matrix)
        matrix = struct.pack("<II", 15, len(packed)) + packed
    return (
        b"MATLAB 5.0 MAT-file, made for a test".ljust(124)
        + struct.pack("<H2s", 256, b"IM")
        + matrix
    )


def mat_v73(name: str, fields: dict[str, np.ndarray]) -> bytes:
    """A MAT file of version 7.3: HDF5 behind a text header."""
    memory = io.BytesIO()
    with h5py.File(memory, "w", userblock_size=512) as file:
        for field, values in fields.items():
            file[f"{name}/{field}"] = values.T
    data = bytearray(memory.getvalue())
    data[:20] = b"MATLAB 7.3 MAT-file,"
    return bytes(data)


def shd_file(path: Path, times, units, labels) -> None:
    """A file in SHD's layout from one array of times and one of units per recording."""
    with h5py.File(path, "w") as file:
        kind = h5py.vlen_dtype(np.asarray(times[0]).dtype)
        file.create_dataset("spikes/times", (len(times),), kind)
        file.create_dataset("spikes/units", (len(units),), h5py.vlen_dtype(np.uint16))
        for index, (t, u) in enumerate(zip(times, units, strict=True)):
            file["spikes/times"][index] = t
            file["spikes/units"][index] = u
        file["labels"] = np.asarray(labels, np.uint16)


def aedat2(t, address) -> bytes:
    """An AEDAT 2.0 file from time stamps and raw addresses."""
    pairs = np.stack([np.asarray(address), np.asarray(t)], 1).astype(">u4")
    return b"#!AER-DAT2.0\r\n# made for a test\r\n" + pairs.tobytes()


def aedat3(t, x, y, p) -> bytes:
    """An AEDAT 3.1 file with one packet of polarity events."""
    word = (np.asarray(x) << 17) | (np.asarray(y) << 2) | (np.asarray(p) << 1) | 1
    pairs = np.stack([word, np.asarray(t)], 1).astype("<u4")
    count = len(pairs)
    return TRIAL + struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, count, count, count) + pairs.tobytes()


def _matrix_head(kind: int, dimensions: tuple[int, ...], name: str) -> bytes:
    return (
        _element(6, struct.pack("<II", kind, 0))
        + _element(5, struct.pack(f"<{len(dimensions)}i", *dimensions))
        + _element(1, name.encode())
    )


def _element(kind: int, body: bytes) -> bytes:
    if 0 < len(body) <= 4:
        return struct.pack("<HH", kind, len(body)) + body.ljust(4, b"\0")
    return struct.pack("<II", kind, len(body)) + body + b"\0" * (-len(body) % 8)


def wav(path: Path, sound: np.ndarray, rate: int = 8000, width: int = 2, channels: int = 1) -> None:
    """A PCM WAV file of a sound in -1..1."""
    import wave

    scaled = np.round(sound * ((1 << (8 * width - 1)) - 1)).astype(np.int64)
    if width == 1:
        scaled += 128
    data = scaled.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.repeat(data, channels, axis=0).tobytes())


def nothing(size: tuple[int, int, int]) -> Events:
    """A recording without events."""
    none = np.zeros(0, np.int64)
    return events(none, none, none, none, size)


def write_nmnist(
    folder: Path, split: str, recordings: Sequence[Events], labels: Sequence[int]
) -> None:
    """Write recordings in N-MNIST's layout, `<folder>/<split>/<label>/<number>.bin`, numbered from
    1.
    """
    for number, (recording, label) in enumerate(zip(recordings, labels, strict=True), 1):
        path = folder / split / str(label) / f"{number:05d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(write_bin(recording))


def write_bin(recording: Events) -> bytes:
    """The content of a .bin file that `read_bin` reads back; times must fit 23 bits."""
    rows = np.empty((len(recording), 5), np.uint8)
    rows[:, 0], rows[:, 1] = recording.x, recording.y
    rows[:, 2] = (recording.t >> 16) | (recording.p.astype(np.int64) << 7)
    rows[:, 3], rows[:, 4] = (recording.t >> 8) & 255, recording.t & 255
    return rows.tobytes()


def write_groups(
    path: Path, recordings: Iterable[tuple[Events, int]], *, split: str | None = None
) -> None:
    """Write (recording, label) pairs: DVS Gesture's layout if `split` is given, else DVSPlane's."""
    with h5py.File(path, "w") as file:
        root = file.create_group(split) if split else file
        for key, (recording, label) in enumerate(recordings):
            columns = np.stack([recording.x, recording.y, recording.p], 1)
            kind = np.uint8 if max(recording.size) <= 256 else np.uint16
            group = root.create_group(str(key))
            group["time"] = recording.t.astype(np.uint32)
            group["data"] = columns.astype(kind)
            group["labels"] = np.uint8(label)


def write_utterances(
    path: Path, train: Iterable[tuple[Events, int]], test: Iterable[tuple[Events, int]]
) -> None:
    """Write (recording, label) pairs in the authors' layout: keys 0.. for training, then
    testing.
    """
    sides = list(train), list(test)
    with h5py.File(path, "w") as file:
        for key, (recording, label) in enumerate(sides[0] + sides[1]):
            group = file.create_group(f"data/{key}")
            group["times"] = recording.t.astype(np.uint32)
            group["addrs"] = recording.x.astype(np.uint8)[:, None]
            group["labels"] = np.uint8(label)
            group.attrs["meta_info"] = ""
        extra = file.create_group("extra")
        counts = len(sides[0]), len(sides[1])
        extra["train_keys"] = np.arange(counts[0])
        extra["test_keys"] = np.arange(counts[0], sum(counts))
        extra.attrs.update({"N": sum(counts), "Ntrain": counts[0], "Ntest": counts[1]})


def write_spikes(
    path: Path, recordings: Iterable[tuple[Events, int]], *, exact: bool = False
) -> None:
    """Write (recording, label) pairs in SHD's layout; times become float16 seconds, float64 if
    `exact`.
    """
    kind = np.float64 if exact else np.float16
    pairs = list(recordings)
    with h5py.File(path, "w") as file:
        group = file.create_group("spikes")
        times = group.create_dataset("times", (len(pairs),), h5py.vlen_dtype(kind))
        units = group.create_dataset("units", (len(pairs),), h5py.vlen_dtype(np.uint16))
        for index, (recording, _) in enumerate(pairs):
            times[index] = (recording.t / 1e6).astype(kind)
            units[index] = recording.x.astype(np.uint16)
        file["labels"] = np.array([label for _, label in pairs], np.uint16)
