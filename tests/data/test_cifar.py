"""CIFAR is read exactly from all of its forms, or refused with the file and record named."""

import io
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from publishers import (
    Samples,
    binary_records,
    pack,
    python2_pickle,
    python3_pickle,
    sample,
    write_cifar10,
    write_cifar100,
)

from damage import damaged
from spikeloom import data
from spikeloom.errors import DataError

TRAIN, TEST = sample(25, (3, 32, 32), seed=1), sample(6, (3, 32, 32), seed=2)
TRAIN_100, TEST_100 = sample(120, (3, 32, 32), 100, seed=3), sample(7, (3, 32, 32), 100, seed=4)


def _assert_equal(split: data.Split, expected: Samples) -> None:
    images, labels = expected
    raw = split.read(torch.arange(len(split)))
    assert raw.dtype == torch.uint8 and np.array_equal(raw.numpy(), images)
    assert split.labels.dtype == torch.int64 and np.array_equal(split.labels.numpy(), labels)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("below", ["", "CIFAR10"])
def test_cifar10_is_read_exactly_from_every_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, binary: bool, packed: bool, below: str
) -> None:
    root = tmp_path / "root"
    folder = write_cifar10(
        tmp_path / "made" if packed else root / below, TRAIN, TEST, binary=binary
    )
    if packed:
        pack(folder, root / below / f"cifar-10-{'binary' if binary else 'python'}.tar.gz")
    monkeypatch.setenv("SPIKELOOM_DATA", str(root))
    for given_root in (None, root, root / below):
        read = data.load("cifar10", given_root)
        _assert_equal(read.train, TRAIN)
        _assert_equal(read.test, TEST)
        assert read.spec.shape == (3, 32, 32) and read.spec.classes[9] == "truck"
    assert (root / below / folder.name).exists() != packed


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_cifar100_is_read_with_its_fine_labels(tmp_path: Path, binary: bool, packed: bool) -> None:
    root = tmp_path / "CIFAR100"
    folder = write_cifar100(tmp_path if packed else root, TRAIN_100, TEST_100, binary=binary)
    if packed:
        pack(folder, root / f"{folder.name}.tar.gz")
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    read = data.load("cifar100", tmp_path)
    _assert_equal(read.train, TRAIN_100)
    _assert_equal(read.test, TEST_100)
    assert len(set(read.spec.classes)) == read.spec.class_count == 100
    assert list(read.spec.classes) == sorted(read.spec.classes)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_batches_that_python_3_wrote_are_read(tmp_path: Path, protocol: int) -> None:
    folder = write_cifar10(tmp_path, TRAIN, TEST)
    (folder / "test_batch").write_bytes(python3_pickle(*TEST, protocol=protocol))
    _assert_equal(data.load("cifar10", tmp_path).test, TEST)


def test_the_folder_itself_may_be_the_root(tmp_path: Path) -> None:
    _assert_equal(data.load("cifar10", write_cifar10(tmp_path, TRAIN, TEST)).train, TRAIN)


def test_missing_set_prints_tree_and_places(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        data.load("cifar100", tmp_path)
    text = str(caught.value)
    assert "cifar-100-python.tar.gz   or   cifar-100-python/{train, test}" in text
    assert f"    {tmp_path / 'CIFAR100' / 'cifar-100-binary'}" in text
    assert "take them from https://www.cs.toronto.edu/~kriz/cifar.html" in text


def test_missing_batch_is_named(tmp_path: Path) -> None:
    (write_cifar10(tmp_path, TRAIN, TEST) / "data_batch_4").unlink()
    with pytest.raises(
        DataError, match="data_batch_4: missing, though cifar-10-batches-py is there"
    ):
        data.load("cifar10", tmp_path)


IMAGES, LABELS = TEST
WRONG = np.array([0, 1, 2, 10, 4, 5], dtype=np.uint8)


@pytest.mark.parametrize(
    "content, message",
    [
        (python2_pickle(IMAGES, WRONG), r"record 3: label 10, expected 0\.\.9"),
        (python2_pickle(IMAGES, LABELS[:5]), "entry 'labels' is not a list of 6 labels"),
        (python2_pickle(IMAGES, LABELS, "fine_labels"), "entry 'labels' is not a list"),
        (python2_pickle(IMAGES[:, :2], LABELS), r"'data' is not an array of unsigned bytes \[n, 3"),
        (python2_pickle(*TEST)[:-1], "the pickle is damaged"),
        (python2_pickle(*TEST) + b"x", "bytes go on after the end of the pickle"),
        (b"\x80\x02]q\x01.", "entry 'data' is not an array"),
    ],
)
def test_damaged_python_batch_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = write_cifar10(tmp_path, TRAIN, TEST) / "test_batch"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        data.load("cifar10", tmp_path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content, message",
    [
        (binary_records(IMAGES, WRONG), r"record 3: label 10, expected 0\.\.9"),
        (binary_records(*TEST)[:-1], "record 5 is cut short: 18,437 bytes"),
        (b"", "holds no records"),
    ],
)
def test_damaged_binary_batch_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = write_cifar10(tmp_path, TRAIN, TEST, binary=True) / "test_batch.bin"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        data.load("cifar10", tmp_path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def _archive(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))


def _member(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, "/etc/hostname"
    return info


def test_archive_writes_nothing_and_ignores_paths_that_escape(tmp_path: Path) -> None:
    folder = write_cifar100(tmp_path / "made", TRAIN_100, TEST_100, binary=True)
    root = tmp_path / "root"
    root.mkdir()
    files = [(f"cifar-100-binary/{path.name}", path.read_bytes()) for path in folder.iterdir()]
    _archive(
        root / "cifar-100-binary.tar.gz",
        [
            (_member("../../escaped", 4), b"evil"),
            (_member("/tmp/escaped", 4), b"evil"),
            (_member("cifar-100-binary/../../train.bin", 4), b"evil"),
            *((_member(name, len(content)), content) for name, content in files),
        ],
    )
    before = sorted(tmp_path.rglob("*"))
    _assert_equal(data.load("cifar100", root).train, TRAIN_100)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "members, message",
    [
        ([], "has no file cifar-100-binary/test.bin"),
        (
            [(_member("cifar-100-binary/train.bin", 0, tarfile.SYMTYPE), b"")],
            "has no file cifar-100-binary/test.bin",
        ),
    ],
)
def test_bad_archive_is_named(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], message: str
) -> None:
    path = tmp_path / "cifar-100-binary.tar.gz"
    _archive(path, members)
    with pytest.raises(DataError, match=message) as caught:
        data.load("cifar100", tmp_path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(content=damaged(python2_pickle(IMAGES[:2], LABELS[:2])))
def test_fuzzed_python_batch_is_read_or_refused(content: bytes) -> None:
    _read_or_refuse("cifar-10-batches-py/test_batch", content)


@settings(max_examples=100, deadline=None)
@given(content=damaged(binary_records(IMAGES[:2], LABELS[:2])))
def test_fuzzed_binary_batch_is_read_or_refused(content: bytes) -> None:
    _read_or_refuse("cifar-10-batches-bin/test_batch.bin", content)


def _read_or_refuse(file: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_cifar10(root, sample(5, (3, 32, 32)), TEST, binary=file.endswith(".bin"))
        (root / file).write_bytes(content)
        _check_set_or_error("cifar10", root, root / file)


def _small_archive() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        train, test = sample(4, (3, 32, 32), 100), sample(2, (3, 32, 32), 100)
        folder = write_cifar100(Path(name), train, test, binary=True)
        return pack(folder, Path(name) / "x.tar.gz").read_bytes()


@settings(max_examples=150, deadline=None)
@given(content=damaged(_small_archive()))
def test_fuzzed_archive_is_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "cifar-100-binary.tar.gz"
        path.write_bytes(content)
        _check_set_or_error("cifar100", Path(name), path)


def _check_set_or_error(name: str, root: Path, path: Path) -> None:
    try:
        read = data.load(name, root)
    except DataError as error:
        # A file of an archive is named as if it lay in a folder of the archive's name.
        assert str(error).startswith((f"{path}: ", f"{path}/")) and "\n" not in str(error)
        return
    for split in (read.train, read.test):
        raw = split.read(torch.arange(len(split)))
        assert raw.shape == (len(split), 3, 32, 32) and raw.dtype == torch.uint8
        assert len(split.labels) == len(split) > 0
        assert 0 <= int(split.labels.min()) <= int(split.labels.max()) < read.spec.class_count
