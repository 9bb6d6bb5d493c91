"""MNIST and Fashion-MNIST are read exactly, from every layout, or refused with the byte named."""

import gzip
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from publishers import idx, sample, write_idx_set

from damage import damaged
from spikeloom import data
from spikeloom.data.sets.idx import read_idx
from spikeloom.errors import DataError

TRAIN, TEST = sample(30, (28, 28), seed=1), sample(12, (28, 28), seed=2)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name, folder", [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
@pytest.mark.parametrize("layout", ["", "raw", "{folder}/raw"])
def test_every_layout_is_found_and_read_exactly(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    folder: str,
    layout: str,
    packed: bool,
) -> None:
    write_idx_set(tmp_path / folder / layout.format(folder=folder), TRAIN, TEST, packed=packed)
    monkeypatch.setenv("SPIKELOOM_DATA", str(tmp_path))
    for root in (None, tmp_path, tmp_path / folder):
        read = data.load(name, root)
        for split, (images, labels) in ((read.train, TRAIN), (read.test, TEST)):
            raw = split.read(torch.arange(len(split)))
            assert raw.dtype == torch.uint8 and raw.shape == (len(images), 1, 28, 28)
            assert np.array_equal(raw[:, 0].numpy(), images)
            assert split.labels.dtype == torch.int64
            assert np.array_equal(split.labels.numpy(), labels)
        assert read.spec.shape == (1, 28, 28) and read.spec.class_count == 10


def test_data_folder_below_the_working_directory_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx_set(tmp_path / "data" / "MNIST" / "raw", TRAIN, TEST)
    monkeypatch.delenv("SPIKELOOM_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert len(data.load("mnist").train) == 30


def test_fashion_is_never_read_from_the_folder_of_mnist(tmp_path: Path) -> None:
    write_idx_set(tmp_path / "MNIST", TRAIN, TEST)
    with pytest.raises(DataError, match="fashion-mnist: no files found"):
        data.load("fashion-mnist", tmp_path)


def test_missing_set_prints_tree_places_and_origin(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        data.load("mnist", tmp_path)
    text = str(caught.value)
    assert "    train-images-idx3-ubyte[.gz]" in text
    assert f"    {tmp_path / 'MNIST' / 'raw' / 'train-images-idx3-ubyte'}" in text
    assert "SPIKELOOM_DATA" in text
    assert "take them from https://" in text


def test_missing_file_among_others_is_named(tmp_path: Path) -> None:
    folder = write_idx_set(tmp_path / "MNIST", TRAIN, TEST)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"MNIST/t10k-labels-idx1-ubyte: missing"):
        data.load("mnist", tmp_path)


def test_fewer_samples_than_published_are_noted(tmp_path: Path) -> None:
    write_idx_set(tmp_path, TRAIN, TEST)
    assert data.load("mnist", tmp_path).notes == (
        "mnist train: 30 samples, the publisher has 60,000",
        "mnist test: 12 samples, the publisher has 10,000",
    )


def _patch(at: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content[:at] + value + content[at + len(value) :]


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    "file, change, message",
    [
        (IMAGES, lambda _: b"", r"byte 0: magic is 0x\(nothing\), expected 0x00000803"),
        (IMAGES, _patch(0, b"\x1f\x8b"), "byte 0: magic is 0x1f8b0803"),
        (IMAGES, _patch(2, b"\x0d"), "byte 0: magic is 0x00000d03"),
        (LABELS, _patch(3, b"\x03"), "byte 0: magic is 0x00000803, expected 0x00000801"),
        (IMAGES, lambda content: content[:9], "byte 9: the file ends inside its header of 16"),
        (IMAGES, _patch(8, struct.pack(">2I", 32, 32)), "byte 8: records of 32x32 values"),
        (IMAGES, _patch(4, struct.pack(">I", 0)), "byte 16: bytes go on after the 0"),
        (IMAGES, _patch(4, b"\xff" * 4), "only 23,520 bytes of the 3,367,254,359,280"),
        (IMAGES, lambda content: content[:-5], "byte 23,531: only 23,515 bytes of the 23,520"),
        (IMAGES, lambda content: content + b"!", "byte 23,536: bytes go on after the 23,520"),
        (LABELS, lambda _: idx(TRAIN[1][:29]), "byte 4: 29 labels for the 30 images"),
        (LABELS, _patch(8 + 7, b"\x0a"), r"byte 15: label 10 of sample 7, expected 0\.\.9"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_damage_is_named_by_file_and_byte(
    tmp_path: Path, file: str, change: Callable[[bytes], bytes], message: str, packed: bool
) -> None:
    folder = write_idx_set(tmp_path / "MNIST", TRAIN, TEST)
    content = change((folder / file).read_bytes())
    (folder / file).unlink()
    path = folder / (f"{file}.gz" if packed else file)
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match=message) as caught:
        data.load("mnist", tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-9], lambda content: b"no gzip", lambda content: content + b"tail"],
)
def test_damaged_gzip_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    folder = write_idx_set(tmp_path / "MNIST", TRAIN, TEST, packed=True)
    path = folder / f"{IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: cannot be read"):
        data.load("mnist", tmp_path)


@settings(max_examples=150, deadline=None)
@given(content=damaged(idx(TRAIN[0][:3])), packed=st.booleans())
def test_fuzzed_plain_file_is_read_or_refused(content: bytes, packed: bool) -> None:
    _read_or_refuse(gzip.compress(content) if packed else content, packed)


@settings(max_examples=150, deadline=None)
@given(content=damaged(gzip.compress(idx(TRAIN[0][:3]), mtime=0)))
def test_fuzzed_packed_file_is_read_or_refused(content: bytes) -> None:
    _read_or_refuse(content, packed=True)


def _read_or_refuse(content: bytes, packed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("images.gz" if packed else "images")
        path.write_bytes(content)
        try:
            values = read_idx(path, (28, 28))
        except DataError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            return
        plain = gzip.decompress(content) if packed else content
        assert values.tobytes() == plain[16:] and len(values) == int.from_bytes(plain[4:8], "big")
