"""Data of one's own: class folders of recordings and images, arrays, and how they are divided."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import spikeloom as sl
from spikeloom.config.data import ImagesConfig
from spikeloom.data import source
from spikeloom.data.files.classes import held_out
from spikeloom.data.for_recipe import load_data
from spikeloom.data.sets.arrays import delta, in_parts
from spikeloom.data.survey import describe_own
from spikeloom.errors import ConfigError, DataError
from spikeloom.methods.catalog import load_recipe

draw = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKELOOM_CACHE", str(tmp_path / "cache"))


def recording(folder: Path, name: str, *, side: int = 16, unit: float = 1.0, p=(0, 1)) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.sort(draw.integers(0, 200_000, 50)) * unit
    rows = np.stack([t, *draw.integers(0, side, (2, 50)), draw.choice(p, 50)], 1)
    rows[0, 1:3] = side - 1
    np.savetxt(path, rows, fmt=["%.6f" if unit != 1 else "%d", "%d", "%d", "%d"], delimiter=",")
    return path


def folder_of(root: Path, *, each: int = 10, **options) -> Path:
    for name in ("left", "right"):
        for number in range(each):
            recording(root, f"{name}/user{number % 5}_{number}.csv", **options)
    return root


def load(root: Path, **options: str):
    return source("eventfolder").load(root, options=options)  # type: ignore[call-arg]


def test_one_folder_is_divided_by_a_seed(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "mine", unit=1e-6, p=(-1, 1))
    data = load(root)
    assert data.spec.classes == ("left", "right") and data.spec.shape == (2, 16, 16)
    assert data.test.labels.bincount().tolist() == [2, 2] and len(data.train) == 16
    assert any("times in s" in note for note in data.notes)
    assert data.train.read(torch.arange(16)).sum() == 16 * 50
    again, other = load(root), load(root, seed="1", test="0.5")
    assert again.train.read(torch.arange(3)).equal(data.train.read(torch.arange(3)))
    assert len(other.test) == 10


def test_groups_are_on_one_side(tmp_path: Path) -> None:
    data = load(folder_of(tmp_path / "mine"), group=r"(user\d+)_")
    titles = [
        {data_.title(i).split("user")[1][0] for i in range(len(data_.labels))}
        for data_ in (data.train.recordings, data.test.recordings)
    ]
    assert titles[0] and titles[1] and not titles[0] & titles[1]
    with pytest.raises(ConfigError, match="finds nothing in left/"):
        load(tmp_path / "mine", group="person(.)")


def test_a_split_file_divides_and_wrong_names_are_counted(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "mine", each=3)
    names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.csv"))]
    table = tmp_path / "split.csv"
    sides = ["train", "train", "test"] * 2
    lines = [f"{name},{side}\n" for name, side in zip(names, sides, strict=True)]
    table.write_text("\ufeffname,split\n" + "".join(lines))
    data = load(root, split=str(table))
    assert (len(data.train), len(data.test)) == (4, 2)
    table.write_text("".join(lines) + "left/none.csv,train\n")
    with pytest.raises(DataError, match=r"1 names are no samples .*'left/none\.csv'"):
        load(root, split=str(table))


@pytest.mark.parametrize("packed", [False, True])
def test_train_and_test_folders_links_and_what_systems_leave(tmp_path: Path, packed: bool) -> None:
    disk = tmp_path / "disk"
    for split in ("train", "test", "val"):
        folder_of(disk / split, each=2)
    (disk / "train" / "left" / "._a.csv").write_text("x")
    (disk / "train" / ".ipynb_checkpoints").mkdir()
    os.symlink(tmp_path / "gone", disk / "train" / "left" / "b.csv")
    root = tmp_path / "mine"
    if packed:
        with zipfile.ZipFile(tmp_path / "mine.zip", "w") as out:
            for path in sorted(disk.rglob("*.csv")):
                if path.exists():
                    out.write(path, f"all/{path.relative_to(disk)}")
        root = tmp_path / "mine.zip"
    else:
        root.mkdir()
        for split in ("train", "test", "val"):
            os.symlink(disk / split, root / split)
    data = load(root)
    assert (len(data.train), len(data.test)) == (4, 4)
    assert any("val/ beside them is not read" in note for note in data.notes)


def test_what_was_guessed_is_said_and_options_say_it_otherwise(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "mine", side=120)
    for path in root.rglob("*.csv"):
        path.write_text(path.read_text() + "198000,0,0,1\n")
    assert "a sensor of 128x128 (coordinates fit a DVS128" in describe_own(root)
    text = describe_own(root, {"size": "346x260", "unit": "ms"})
    assert "a sensor of" not in text and "times in us" not in text and " s, of " in text
    with pytest.raises(ConfigError, match=r"options\.unit = 'h': give us, ms, s, ns"):
        load(root, unit="h")


def test_unsorted_recordings_are_sorted_and_told(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "mine", each=2)
    for path in root.rglob("*.csv"):
        rows = path.read_text().splitlines(keepends=True)
        path.write_text("".join(reversed(rows)))
    data = load(root, columns="txyp")
    assert any("2 recordings are not in time order and were sorted" in n for n in data.notes)


def test_damaged_recordings_are_listed_and_skipped_on_request(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "mine", each=40)
    for number in (3, 4):
        (root / "left" / f"user{number}_{number}.csv").write_text("1,2,3,1\n5,6,nan,0\n")
    config = [f"root={root}", "T=4", "channels=2", "hidden=8", "data.options.size=16x16"]
    with pytest.raises(DataError, match=r"(?s)2 of 64 recordings cannot be read.*user3_3.*user4_4"):
        load_data(load_recipe("own/events", [*config, "data.options.seed=3"]))
    data = load_data(
        load_recipe("own/events", [*config, "data.options.seed=3", "skip_damaged=true"])
    )
    assert len(data.train) + len(data.test) == 78
    assert any("2 damaged recordings are left out" in note for note in data.notes)


def test_same_size_and_time_but_other_content_is_prepared_anew(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "mine", each=2)
    first = load(root, size="16x16")
    whole = [first.train.read(torch.arange(2)), first.test.read(torch.arange(2))]
    for path in root.rglob("*.csv"):
        info, rows = path.stat(), np.loadtxt(path, delimiter=",")
        rows[:, 3] = 1 - rows[:, 3]
        np.savetxt(path, rows, fmt="%d", delimiter=",")
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    other = load(root, size="16x16")
    assert other.train.read(torch.arange(2)).equal(whole[0].flip(2))


def test_a_folder_of_one_class_and_loose_files_are_named(tmp_path: Path) -> None:
    recording(tmp_path / "one", "left/a.csv")
    recording(tmp_path / "one", "left/b.csv")
    with pytest.raises(DataError, match="1 class folders"):
        load(tmp_path / "one")
    recording(tmp_path / "loose", "a.csv")
    with pytest.raises(DataError, match=r"a\.csv and 0 more lie in no class folder"):
        load(tmp_path / "loose")


def test_a_sample_is_what_the_split_reads(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "mine", unit=1e-6)
    recipe = load_recipe("own/events", [f"root={root}", "T=4", "normalization=max"])
    data = load_data(recipe)
    path = Path(data.test.recordings.title(0))
    sample = source("eventfolder").sample(  # type: ignore[attr-defined]
        path.read_bytes(), path.name, recipe.data, 4, data.spec
    )
    assert sample.equal(data.test.read(torch.tensor([0]))[:, 0])


# Images


def picture(path: Path, value: int, **more) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((8, 8, 3), value, np.uint8)
    pixels[:4] = 0
    Image.fromarray(pixels).save(path, **more)


def test_images_without_train_and_val(tmp_path: Path) -> None:
    for name, value in (("a", 100), ("b", 200)):
        for number in range(5):
            picture(tmp_path / name / f"{number}.png", value)
    (tmp_path / "a" / "0.png").write_bytes(b"no image")
    images = ImagesConfig(size=8)
    load = source("imagefolder").load
    data = load(tmp_path, images)  # type: ignore[call-arg]
    assert (len(data.train), len(data.test)) == (8, 2) and data.spec.classes == ("a", "b")
    sound = load(tmp_path, images, skip_damaged=True)  # type: ignore[call-arg]
    assert len(sound.train) + len(sound.test) == 9
    assert any("1 damaged images are left out" in note for note in sound.notes)


def test_turned_photographs_stand_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    for split in ("train", "val"):
        for name in ("a", "b"):
            picture(tmp_path / split / name / "0.jpg", 200, exif=exif)
    data = source("imagefolder").load(tmp_path, ImagesConfig(size=8, shorter_side=8))  # type: ignore[call-arg]
    grey = data.test.read(torch.tensor([0]))[0, 0].float().mean(1)
    assert grey[0] > 150 and grey[-1] < 50


# Arrays


def arrays(tmp_path: Path, **named) -> Path:
    np.savez(tmp_path / "a.npz", **named)
    return tmp_path / "a.npz"


def test_series_become_time_steps(tmp_path: Path) -> None:
    x = draw.normal(3, 2, (40, 100, 2))
    path = arrays(tmp_path, X=x, labels=np.array(["b", "a"] * 20))
    recipe = load_recipe("own/series", [f"root={path}", "T=10"])
    data = load_data(recipe)
    assert data.spec.classes == ("a", "b") and data.spec.shape == (2,)
    raw = data.train.read(torch.arange(3))
    assert raw.shape == (10, 3, 2) and abs(data.mean[0] - 3) < 0.1
    both = torch.cat([data.train.read(torch.arange(32)), data.test.read(torch.arange(8))], 1)
    assert both.sum().item() == pytest.approx(x.reshape(40, 10, 10, 2).mean(2).sum(), rel=1e-5)


@pytest.mark.parametrize("steps", [1, 3, 7, 20])
def test_parts_are_means_and_short_series_repeat(steps: int) -> None:
    x = draw.normal(size=(2, 7, 1))
    parts = in_parts(x, steps)
    assert parts.shape == (2, steps, 1) and np.abs(parts).max() <= np.abs(x).max() + 1e-12
    if steps == 7:
        assert np.allclose(parts, x)
    fast = np.sin(np.pi * np.arange(400))[None, :, None]  # too fast for 20 steps: nothing is left
    assert np.abs(in_parts(fast, 20)).max() < 0.1


def test_delta_modulation_counts_what_a_channel_moved() -> None:
    x = np.cumsum(draw.normal(size=(3, 200, 2)), axis=1)
    threshold = np.array([0.5, 2.0])
    counts = delta(x, threshold, 10)
    rises, falls = counts[:, :, :2].sum(1), counts[:, :, 2:].sum(1)
    moved = x[:, -1] - x[:, 0]
    assert counts.shape == (3, 10, 4) and (counts >= 0).all()
    assert (np.abs((rises - falls) * threshold - moved) < threshold + 1e-9).all()


def test_images_in_arrays(tmp_path: Path) -> None:
    last = draw.integers(0, 256, (10, 6, 5, 3), dtype=np.uint8)
    data = source("arrays").load(arrays(tmp_path, x=last, y=np.arange(10) % 2))
    assert data.spec.shape == (3, 6, 5) and data.spec.kind == "static"
    for values in (last / 255, last.astype(np.uint16) * 257):
        again = source("arrays").load(arrays(tmp_path, x=values, y=np.arange(10) % 2))
        assert again.train.read(torch.arange(8)).equal(data.train.read(torch.arange(8)))
        assert any("were scaled to 8 bits" in note for note in again.notes)


def test_arrays_that_are_divided_already_and_labels_from_one(tmp_path: Path) -> None:
    x, y = draw.normal(size=(9, 4, 1)), np.arange(9) % 3 + 1
    path = arrays(tmp_path, x_train=x[:6], y_train=y[:6], x_test=x[6:], y_test=y[6:])
    data = source("arrays").load(path)
    assert (len(data.train), len(data.test)) == (6, 3)
    assert data.spec.classes == ("1", "2", "3") and data.train.labels.min() == 0


def test_one_hot_labels_are_classes_and_what_is_not_read_is_told(tmp_path: Path) -> None:
    x, y = draw.normal(size=(30, 4, 1)), np.arange(30) % 3
    plain = source("arrays").load(arrays(tmp_path, x=x, y=y))
    for kind in (np.int64, np.float32, bool):
        coded = arrays(tmp_path, x=x, y=np.eye(3, dtype=kind)[y], x_val=x, y_val=y)
        data = source("arrays").load(coded)
        assert not data.spec.targets and data.train.labels.equal(plain.train.labels)
        assert any("one-hot" in note for note in data.notes)
        assert "not read of the file: x_val, y_val" in data.notes


def test_a_class_without_training_samples_is_told(tmp_path: Path) -> None:
    x, y = draw.normal(size=(9, 4)), np.arange(9) % 3
    path = arrays(tmp_path, x_train=x[y < 2], y_train=y[y < 2], x_test=x, y_test=y)
    assert "classes that no training sample has: 2" in source("arrays").load(path).notes


def test_an_archive_near_the_top_of_the_disk(tmp_path: Path, monkeypatch) -> None:
    folder_of(tmp_path / "mine", each=2)
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as out:
        for path in sorted((tmp_path / "mine").rglob("*.csv")):
            out.write(path, f"all/of/it/{path.relative_to(tmp_path / 'mine')}")
    monkeypatch.chdir(tmp_path)
    assert len(load(Path("mine.zip")).train) == 2


@pytest.mark.parametrize("encoding", ["current", "delta"])
def test_a_channel_that_stands_still_in_training_is_not_blown_up(tmp_path, encoding) -> None:
    x, y = draw.normal(size=(40, 6, 2)), np.arange(40) % 2
    x[:, :, 1] = 0.1
    x[30:, 3:, 1] = 0.2
    path = arrays(tmp_path, x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    data = source("arrays").load(path, options={"encoding": encoding})
    assert any("not scaled: 1" in note for note in data.notes)
    values = data.test.read(torch.arange(10))
    mean, std = torch.tensor(data.mean), torch.tensor(data.std)
    assert ((values - mean) / std)[..., 1::2].abs().max() < 1


def test_a_regression_is_shown_without_classes(tmp_path: Path) -> None:
    path = arrays(tmp_path, x=draw.normal(size=(40, 20, 2)), y=draw.normal(size=40))
    lines = describe_own(path).splitlines()
    assert lines[1:3] == ["  train: 32 samples", "  test: 8 samples"]
    assert "  test: 20 samples" in describe_own(path, {"test": "0.5"})


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (
            {
                **{"x_train": np.ones((6, 3)), "y_train": np.arange(5)},
                **{"x_test": np.ones((2, 3)), "y_test": np.arange(3)},
            },
            r"x is \(6, 3\) and y \(5,\)",
        ),
        ({"x": np.ones((4, 3, 1))}, "expected one of y"),
        ({"x": np.ones((4, 3, 1)), "y": np.arange(3)}, r"\(4, 3, 1\) and y \(3,\)"),
        ({"x": np.full((4, 3, 1), np.nan), "y": np.arange(4) % 2}, "sample 0 has values that are"),
        ({"x": np.full((4, 3, 1), 1e39), "y": np.arange(4) % 2}, "sample 0 .* too large for float"),
        ({"x": np.ones((4, 3, 1)), "y": np.zeros(4, int)}, "one class only"),
        ({"x": np.array([{}] * 4), "y": np.arange(4)}, "cannot be read as NumPy arrays"),
    ],
)
def test_what_is_wrong_with_arrays_is_named(tmp_path: Path, named, message: str) -> None:
    with pytest.raises(DataError, match=message):
        source("arrays").load(arrays(tmp_path, **named))


def test_whole_groups_are_held_out() -> None:
    labels, groups = np.arange(100) % 2, [str(i // 10) for i in range(100)]
    for seed in range(5):
        mask = held_out(labels, groups, 0.2, seed)
        assert mask.sum() == 20
        assert all(len({mask[i] for i in range(g * 10, g * 10 + 10)}) == 1 for g in range(10))


def test_real_targets_are_a_regression_that_learns(tmp_path: Path) -> None:
    """The mean and the slope of a noisy line, told by leaky integrators."""
    draw = np.random.default_rng(1)
    level, slope = draw.uniform(-1, 1, (2, 240))
    x = level[:, None] + slope[:, None] * np.linspace(-1, 1, 40) + draw.normal(0, 0.05, (240, 40))
    np.savez(tmp_path / "lines.npz", x=x[:, :, None], y=np.stack([level, slope], 1))
    changes = {
        "root": tmp_path / "lines.npz",
        "T": 20,
        "epochs": 25,
        "hidden": [32],
        "batch_size": 16,
        "dropout": 0,
        "threads": 1,
    }
    console = Console(file=io.StringIO())
    run = sl.train("own/series-regression", out=tmp_path / "run", console=console, **changes)
    assert sl.evaluate(run.folder).errors["r2"] > 0.3
    np.save(tmp_path / "one.npy", x[0][:, None])
    [answer] = sl.load(run.folder).predict(tmp_path / "one.npy")
    assert answer.label is None and list(answer.scores) == ["target 0", "target 1"]
