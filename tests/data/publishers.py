"""Small data sets in their publishers' formats, written to a folder of a test.

The content is random but fixed, so a test reads a set back and compares it with what `sample` made.
"""

import gzip
import math
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np

Samples = tuple[np.ndarray, np.ndarray]
"""Images uint8 `[n, ...]` and labels uint8 `[n]`."""


def sample(count: int, shape: tuple[int, ...], classes: int = 10, seed: int = 0) -> Samples:
    """Random images; the labels go round all classes."""
    images = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
    return images, (np.arange(count) % classes).astype(np.uint8)


def idx(values: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    return struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_idx_set(folder: Path, train: Samples, test: Samples, *, packed: bool = False) -> Path:
    """The four files of MNIST or Fashion-MNIST."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, (images, labels) in (("train", train), ("t10k", test)):
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx(values)
            if packed:
                (folder / f"{stem}-{kind}-ubyte.gz").write_bytes(gzip.compress(content, 1, mtime=0))
            else:
                (folder / f"{stem}-{kind}-ubyte").write_bytes(content)
    return folder


def python2_pickle(images: np.ndarray, labels: np.ndarray, label_key: str = "labels") -> bytes:
    """A CIFAR batch as Python 2 wrote it (protocol 2, strings of bytes): the publisher's own form.

    Python 3 cannot write Python 2 strings, so the opcodes are put down one by one.
    """

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    rows = images.reshape(len(images), math.prod(images.shape[1:]))
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85"
        + text(b"b")
        + b"\x87Rq\x04(K\x01"
        + b"".join(b"J" + struct.pack("<i", size) for size in rows.shape)
        + b"\x86cnumpy\ndtype\nq\x05"
        + text(b"u1")
        + b"K\x00K\x01\x87Rq\x06(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<I", rows.size)
        + rows.tobytes()
        + b"tb"
    )
    numbers = b"(" + b"".join(b"K" + bytes([label]) for label in labels.tolist()) + b"e"
    names = b"(" + b"".join(
        text(b"image_%d.png" % index) + b"r" + struct.pack("<I", 256 + index)
        for index in range(len(labels))
    )
    return (
        b"\x80\x02}q\x01("
        + (text(b"batch_label") + text(b"training batch 1 of 5"))
        + (text(label_key.encode()) + b"]q\x07" + numbers)
        + (text(b"data") + array)
        + (text(b"filenames") + b"]q\x08" + names + b"e")
        + b"u."
    )


def python3_pickle(
    images: np.ndarray, labels: np.ndarray, label_key: str = "labels", protocol: int = 2
) -> bytes:
    """A CIFAR batch that Python 3 wrote, as copies of the data set are."""
    batch = {
        b"data": images.reshape(len(images), math.prod(images.shape[1:])),
        label_key.encode(): labels.tolist(),
        b"filenames": [f"{index}.png".encode() for index in range(len(labels))],
    }
    return pickle.dumps(batch, protocol=protocol)


def binary_records(images: np.ndarray, labels: np.ndarray, label_bytes: int = 1) -> bytes:
    """A CIFAR batch of the binary version; a coarse label of CIFAR-100 is the fine one over 5."""
    columns = [labels[:, None] // 5] * (label_bytes - 1) + [labels[:, None]]
    return np.concatenate(
        [*columns, images.reshape(len(images), math.prod(images.shape[1:]))], axis=1
    ).tobytes()


def write_cifar10(folder: Path, train: Samples, test: Samples, *, binary: bool = False) -> Path:
    """`cifar-10-batches-py` or `cifar-10-batches-bin` in `folder`, the training set in 5 parts."""
    place = folder / ("cifar-10-batches-bin" if binary else "cifar-10-batches-py")
    place.mkdir(parents=True, exist_ok=True)
    make = binary_records if binary else python2_pickle
    suffix = ".bin" if binary else ""
    pieces = zip(*(np.array_split(values, 5) for values in train), strict=True)
    for part, (images, labels) in enumerate(pieces, start=1):
        (place / f"data_batch_{part}{suffix}").write_bytes(make(images, labels))
    (place / f"test_batch{suffix}").write_bytes(make(*test))
    return place


def write_cifar100(folder: Path, train: Samples, test: Samples, *, binary: bool = False) -> Path:
    """`cifar-100-python` or `cifar-100-binary` in `folder`."""
    place = folder / ("cifar-100-binary" if binary else "cifar-100-python")
    place.mkdir(parents=True, exist_ok=True)
    for name, (images, labels) in (("train", train), ("test", test)):
        if binary:
            content = binary_records(images, labels, label_bytes=2)
            (place / f"{name}.bin").write_bytes(content)
        else:
            (place / name).write_bytes(python2_pickle(images, labels, "fine_labels"))
    return place


def pack(folder: Path, archive: Path) -> Path:
    """`folder` as a `.tar.gz`, under its own name, as the publisher packs it."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(folder, arcname=folder.name)
    return archive
