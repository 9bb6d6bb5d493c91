"""Images in tar shards: the same batches as from folders, any order, and nothing outside read."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spikeloom.config.data import ImagesConfig
from spikeloom.data.base import DataSet
from spikeloom.data.files import shards
from spikeloom.data.loader import Loader
from spikeloom.data.sets.imagefolder import DATA_SETS
from spikeloom.errors import DataError

SOURCE = next(source for source in DATA_SETS if source.name == "imagefolder")
SMALL = ImagesConfig(size=8, shorter_side=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven JPEGs of different sizes in each of three classes."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("bird", "cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(7):
                shape = (*generator.integers(10, 30, 2), 3)
                pixels = generator.integers(0, 256, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.JPEG")
    return root


def make(folder: Path, target: Path, shard_bytes: int = 4000) -> DataSet:
    return SOURCE.make_shards(folder, target, shard_bytes, lambda *given: None)


@pytest.fixture
def packed(folder: Path, tmp_path: Path) -> Path:
    make(folder, tmp_path / "packed")
    return tmp_path / "packed"


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_from_shards_equal_those_from_folders(folder: Path, packed: Path, workers: int):
    there, here = SOURCE.load(folder, SMALL), SOURCE.load(packed, SMALL)
    assert here.spec == there.spec and len(shards.shard_files(packed / "train")) > 2
    for split in ("train", "test"):
        assert getattr(here, split).labels.equal(getattr(there, split).labels)
    for epoch, start in ((0, 0), (3, 2)):
        one, two = (
            list(
                Loader(
                    data.train, 4, shuffle=True, random_read=True, workers=count, seed_names=(5,)
                ).epoch(epoch, start)
            )
            for data, count in ((there, 0), (here, workers))
        )
        assert len(one) == len(two) == 6 - start
        for a, b in zip(one, two, strict=True):
            assert a.step == b.step and a.inputs.equal(b.inputs) and a.targets.equal(b.targets)


def test_two_ranks_share_the_shards(packed: Path) -> None:
    data = SOURCE.load(packed, SMALL)
    seen = [
        target
        for rank in (0, 1)
        for batch in Loader(data.test, 4, rank=rank, world_size=2).epoch()
        for target in batch.targets.tolist()
    ]
    assert sorted(seen) == sorted(data.test.labels.tolist())


def test_the_same_folder_gives_the_same_bytes(folder: Path, packed: Path, tmp_path: Path) -> None:
    make(folder, tmp_path / "again")
    for path in sorted(packed.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(packed)).read_bytes()


def test_shards_are_plain_tars_in_the_layout_of_webdataset(folder: Path, packed: Path) -> None:
    with tarfile.open(packed / "train" / "000000.tar") as archive:
        names = archive.getnames()
        image = archive.extractfile("00000000.jpeg")
        label = archive.extractfile("00000000.cls")
        assert image and label and label.read() == b"0"
        assert image.read() == (folder / "train" / "bird" / "0.JPEG").read_bytes()
    assert names[:4] == ["00000000.jpeg", "00000000.cls", "00000001.jpeg", "00000001.cls"]
    assert (packed / "classes.txt").read_text() == "bird\ncat\ndog\n"


@pytest.mark.parametrize("content", [None, b"", b"nonsense", b"spikeloom shards 1\n{}\n1234567"])
def test_without_a_good_index_the_tars_are_read(packed: Path, content: bytes | None) -> None:
    index = packed / "train" / shards.INDEX
    whole = index.read_bytes()
    index.unlink()
    if content is not None:
        index.write_bytes(content)
    assert SOURCE.load(packed, SMALL).train.labels.tolist() == [0] * 7 + [1] * 7 + [2] * 7
    assert index.read_bytes() == whole


@pytest.mark.parametrize("column, value", [(0, 99), (1, 1 << 40), (2, 1 << 62), (1, -8), (3, -1)])
def test_an_index_that_leads_outside_is_not_believed(packed: Path, column: int, value: int) -> None:
    index = packed / "train" / shards.INDEX
    whole = index.read_bytes()
    with np.load(index) as read:
        columns = dict(read)
    columns["table"][3, column] = value
    np.savez(index, **columns)
    data = SOURCE.load(packed, SMALL)
    assert len(data.train.read(torch.arange(21))) == 21
    assert index.read_bytes() == whole


def test_shards_of_another_origin(tmp_path: Path, folder: Path) -> None:
    """Folders inside the tar, more members than are needed, label before image."""
    image = (folder / "train" / "cat" / "1.JPEG").read_bytes()
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        with tarfile.open(tmp_path / split / "imagenet-0001.tar", "w") as archive:
            for name, content in (
                ("a/n01.cls", b"2\n"),
                ("a/n01.json", b"{}"),
                ("a/n01.jpg", image),
                ("a/n02.jpg", image),
                ("a/n02.cls", b"0"),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    data = SOURCE.load(tmp_path, SMALL)
    assert data.train.labels.tolist() == [2, 0] and data.spec.classes == ("0", "1", "2")
    assert data.train.read(torch.tensor([0, 1])).shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    "members, message",
    [
        ({"1.jpg": b"x"}, r"1 has no label \(.cls\)"),
        ({"1.cls": b"3"}, "1 has no image"),
        ({"1.jpg": b"x", "1.cls": b"__import__"}, "expected a label in decimal digits"),
        ({"notes.txt": b"x"}, "hold no samples"),
    ],
)
def test_what_is_wrong_in_a_shard_is_named(
    packed: Path, members: dict[str, bytes], message: str
) -> None:
    for path in (packed / "train").iterdir():
        path.unlink()
    with tarfile.open(packed / "train" / "000000.tar", "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(DataError, match=message):
        SOURCE.load(packed, SMALL)


def test_a_damaged_shard_is_named(packed: Path) -> None:
    (packed / "train" / "000000.tar").write_bytes(b"x" * 1000)
    with pytest.raises(DataError, match=r"000000\.tar: cannot be read"):
        SOURCE.load(packed, SMALL)


def test_a_shard_that_is_cut_while_it_is_in_use(packed: Path) -> None:
    data = SOURCE.load(packed, SMALL)
    last = shards.shard_files(packed / "train")[-1]
    with open(last, "rb+") as file:
        file.truncate(600)
    with pytest.raises(DataError, match="the shard is cut short"):
        data.train.read(torch.tensor([20]))


def test_more_shards_than_are_kept_open(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shards, "_OPEN", 2)
    data = make(folder, tmp_path / "many", shard_bytes=1)
    assert len(shards.shard_files(tmp_path / "many" / "train")) == 21
    order = torch.tensor([20, 3, 0, 20, 11])
    assert data.train.read(order).equal(data.train.read(torch.arange(21))[order])


def test_a_reader_travels_to_another_process_without_its_files(packed: Path) -> None:
    data = SOURCE.load(packed, SMALL)
    before = data.train.read(torch.tensor([4]))
    assert pickle.loads(pickle.dumps(data.train)).read(torch.tensor([4])).equal(before)


def test_nothing_that_exists_is_written_over(folder: Path, packed: Path) -> None:
    with pytest.raises(DataError, match="exists already"):
        make(folder, packed)
    with pytest.raises(DataError, match="shards are made of folders"):
        make(packed, packed.with_name("again"))


def test_a_packing_that_fails_leaves_nothing(folder: Path, tmp_path: Path, monkeypatch) -> None:
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "_add", full)
    with pytest.raises(DataError, match="cannot be written"):
        make(folder, tmp_path / "packed")
    assert list((tmp_path / "packed").iterdir()) == []


def test_synthetic_photographs_go_the_same_way() -> None:
    from spikeloom.data.sets.synthetic import SyntheticImages

    data = SyntheticImages().load(None, SMALL)
    assert len(data.train) == 12_811 and data.spec.class_count == 1000
    batch = next(iter(Loader(data.train, 3, shuffle=True, random_read=True).epoch()))
    assert batch.inputs.shape == (3, 3, 8, 8) and batch.inputs.dtype == torch.uint8
    sizes = [len(data.train.files.read(i)) for i in range(16)]
    assert 95_000 < sum(sizes) / 16 < 125_000
