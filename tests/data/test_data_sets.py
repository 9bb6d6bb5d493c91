"""The registry, the bundled digits, subsets, the per-class split, and what `check` reports."""

import hashlib
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from publishers import sample, write_cifar10, write_idx_set

from spikeloom import data
from spikeloom.data import DataSet, DataSpec, Source, TensorSplit, registry, subset
from spikeloom.data.base import split_per_class
from spikeloom.data.sets.idx import IdxImages
from spikeloom.errors import DataError


def test_data_sets_are_found_by_their_modules() -> None:
    assert {"cifar10", "cifar100", "digits", "fashion-mnist", "mnist"} <= set(data.names())
    assert list(data.names()) == sorted(data.names())
    for name in data.names():
        source = data.source(name)
        assert source.name == name and source.title and set(source.published) == {"train", "test"}


@pytest.mark.parametrize(
    "wrong, right", [("minst", "mnist"), ("Digits", "digits"), ("cifar", "cifar10")]
)
def test_wrong_name_is_answered_with_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(
        DataError, match=rf"no data set is called '{wrong}': did you mean .*{right}"
    ):
        data.load(wrong)


def test_name_unlike_any_is_answered_with_all() -> None:
    with pytest.raises(DataError, match=r"'q': choose one of these \(known: .*digits.*mnist"):
        data.load("q")


class _Own(Source):
    name = "own"
    title = "made by a test"
    published = {"train": 4, "test": 2}

    def files(self, root: Path | None) -> tuple[Path, ...]:
        return ()

    def load(self, root: Path | None) -> DataSet:
        splits = [
            TensorSplit(torch.zeros(n, 1, 2, 2, dtype=torch.uint8), torch.zeros(n)) for n in (4, 2)
        ]
        return DataSet(DataSpec("own", (1, 2, 2), ("a",)), splits[0], splits[1], (0.0,), (1.0,))


def test_a_program_registers_its_own_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    own = data.register(_Own())
    assert "own" in data.names() and len(data.load("own").train) == 4
    assert data.register(own) is own
    with pytest.raises(DataError, match="a data set named 'own' exists already"):
        data.register(_Own())


def test_a_name_of_the_library_cannot_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    own = _Own()
    monkeypatch.setattr(own, "name", "mnist", raising=False)
    with pytest.raises(DataError, match="a data set named 'mnist' exists already"):
        data.register(own)


def test_package_imports_without_torch() -> None:
    code = "import sys, spikeloom.data, spikeloom.data.api; print('torch' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "False"


def test_every_public_name_exists() -> None:
    for name in data.__all__:
        assert getattr(data, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = data.nothing  # pyright: ignore[reportAttributeAccessIssue]


def test_digits_are_complete_and_divided_by_class() -> None:
    digits = data.load("digits")
    train, test = (split.read(torch.arange(len(split))) for split in (digits.train, digits.test))
    assert train.shape == (1438, 1, 8, 8) and test.shape == (359, 1, 8, 8)
    assert train.dtype == torch.uint8
    # 0..16 dark pixels, scaled to 0..255.
    levels = {(count * 255 + 8) // 16 for count in range(17)}
    assert set(train.unique().tolist()) == set(test.unique().tolist()) == levels
    both = torch.bincount(torch.cat([digits.train.labels, digits.test.labels]))
    # The class counts that the publisher states for its test part.
    assert both.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert torch.bincount(digits.test.labels).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    assert digits.notes == () and digits.mean == (0.0,) and digits.std == (1.0,)


def test_no_digit_is_in_both_splits() -> None:
    digits = data.load("digits")
    images = [
        {image.numpy().tobytes() for image in split.read(torch.arange(len(split)))}
        for split in (digits.train, digits.test)
    ]
    assert not images[0] & images[1]


def test_digits_carry_their_source_and_licence() -> None:
    text = (files("spikeloom.data") / "bundled" / "digits.txt").read_text()
    assert "CC BY 4.0" in text and "https://doi.org/10.24432/C50P49" in text


def test_split_per_class_by_hand() -> None:
    labels = torch.tensor([1, 0, 1, 1, 0, 3, 1, 0])
    train, validation = split_per_class(labels, 0.4)
    # ceil(3 x 0.6) = 2 of class 0, ceil(4 x 0.6) = 3 of class 1, none of 2, the only one of 3
    assert train.tolist() == [1, 4, 0, 2, 3, 5]
    assert validation.tolist() == [7, 6]
    assert train.dtype == validation.dtype == torch.int64


@pytest.mark.parametrize(
    "counts, sizes", [([6000] * 10, (51000, 9000)), ([5000] * 10, (42500, 7500))]
)
def test_split_per_class_has_the_published_sizes(counts: list[int], sizes: tuple[int, int]) -> None:
    labels = torch.arange(10).repeat_interleave(torch.tensor(counts))
    train, validation = split_per_class(labels[torch.randperm(len(labels))], 0.15)
    assert (len(train), len(validation)) == sizes
    assert torch.cat([train, validation]).sort().values.equal(torch.arange(len(labels)))


@pytest.mark.parametrize("ratio", [0, 1, -0.1, 1.5, float("nan")])
def test_split_per_class_refuses_other_ratios(ratio: float) -> None:
    with pytest.raises(ValueError, match="give a number above 0 and below 1"):
        split_per_class(torch.zeros(4), ratio)


def test_subset_reads_by_its_own_numbers() -> None:
    labels = torch.arange(6)
    split = TensorSplit(labels.to(torch.uint8).view(6, 1, 1, 1), labels)
    part = subset(subset(split, torch.tensor([5, 3, 1, 0])), torch.tensor([2, 0]))
    assert len(part) == 2 and part.labels.tolist() == [1, 5] and part.in_memory
    assert part.read(torch.tensor([1, 1, 0])).flatten().tolist() == [5, 5, 1]
    assert len(subset(split, torch.tensor([], dtype=torch.int64))) == 0


@pytest.mark.parametrize("indices", [[-1, 2], [0, 6]])
def test_subset_refuses_indices_outside(indices: list[int]) -> None:
    split = TensorSplit(torch.zeros(6, 1, 1, 1), torch.zeros(6))
    with pytest.raises(DataError, match=r"the split has 6 samples: give indices in 0\.\.5"):
        subset(split, torch.tensor(indices))


def test_labels_and_samples_must_be_equally_many() -> None:
    with pytest.raises(DataError, match="3 samples come with 2 labels"):
        TensorSplit(torch.zeros(3, 1, 1, 1), torch.zeros(2))


def test_check_reports_samples_classes_values_and_files(tmp_path: Path) -> None:
    images, labels = sample(20, (28, 28))
    images[images == 255] = 254
    write_idx_set(tmp_path / "MNIST", (images, labels), sample(13, (28, 28)))
    report = data.check("mnist", tmp_path)
    assert report.splits["train"].samples == 20 and report.splits["train"].shape == (1, 28, 28)
    assert report.splits["train"].values == (0, 254)
    assert report.splits["test"].classes == (2, 2, 2, *[1] * 7)
    path = tmp_path / "MNIST" / "train-images-idx3-ubyte"
    assert report.files[path].size == 16 + 20 * 784 and report.files[path].original is False
    text = str(report)
    assert "test: 13 samples of 1x28x28, values 0..255, 1 to 2 of each of 10 classes" in text
    assert f"{path}  15,696 bytes, changed" in text
    assert "train: 20 samples of 1x28x28, values 0..254, 2 of each of 10 classes" in text
    assert "note: mnist train: 20 samples, the publisher has 60,000" in text
    assert "note: not the publisher's files" in text


def test_check_says_nothing_of_files_whose_sum_nobody_knows(tmp_path: Path) -> None:
    train, test = sample(10, (3, 32, 32)), sample(5, (3, 32, 32))
    folder = write_cifar10(tmp_path, train, test, binary=True)
    report = data.check("cifar10", tmp_path)
    assert report.files[folder / "data_batch_1.bin"].original is None
    assert "changed" not in str(report)


def test_check_recognises_the_publishers_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_idx_set(tmp_path / "MNIST", sample(10, (28, 28)), sample(10, (28, 28)))
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setattr(IdxImages, "checksums", sums)
    monkeypatch.delitem(data.source("mnist").__dict__, "checksums")
    report = data.check("mnist", tmp_path)
    assert all(file.original for file in report.files.values())
    assert len(report.notes) == 2 and "the publisher's file" in str(report)


def test_check_of_digits_reads_the_bundled_file() -> None:
    report = data.check("digits")
    assert [path.name for path in report.files] == ["digits.npz"] and report.notes == ()


def test_prepare_verifies_and_has_nothing_to_do(tmp_path: Path) -> None:
    assert "nothing to prepare" in data.prepare("digits")
    with pytest.raises(DataError, match="no files found"):
        data.prepare("mnist", tmp_path)


def test_damaged_bundle_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "digits.npz"
    np.savez(path, images=np.zeros((3, 8, 8), np.uint8))
    monkeypatch.setattr("spikeloom.data.sets.digits.BUNDLED", path)
    with pytest.raises(
        DataError, match=r"digits\.npz: cannot be read .*: install the library again"
    ):
        data.source("digits").load(None)
