"""Every event data set from files in its publisher's layout, made here."""

import gzip
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import event_files as make
from spikeloom.data import DataSpec, registry
from spikeloom.data.events.array import events, spikes
from spikeloom.data.events.frame_set import FrameSplit
from spikeloom.data.events.frames import Framing
from spikeloom.data.events.recordings import EventSet
from spikeloom.data.loader import Loader
from spikeloom.data.sets import dvsgesture, dvsplane, ntidigits
from spikeloom.data.sets.cifar10dvs import CIFAR10_DVS, CLASSES, split_numbers
from spikeloom.data.sets.nmnist import NMNIST, NMNIST_STABLE, stable_framing
from spikeloom.data.sets.shd import SHD
from spikeloom.errors import ConfigError, DataError

rng = np.random.default_rng(3)


def _camera(size: tuple[int, int, int], count: int = 200):
    columns = [rng.integers(0, side, count) for side in (size[2], size[1], size[0])]
    return events(np.sort(rng.integers(0, 300_000, count)), *columns, size=size)


def _cochlea(channels: int, count: int = 100):
    t = np.sort(rng.integers(0, 900_000, count))
    return spikes(t, rng.integers(0, channels, count), channels)


def _nmnist(folder: Path) -> None:
    for split in ("Train", "Test"):
        for digit in (0, 3):
            for number in (11, 2):
                path = folder / split / str(digit) / f"{number:05d}.bin"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(make.write_bin(_camera((2, 34, 34))))


def _cifar(folder: Path) -> None:
    for name in ("frog", "airplane"):
        (folder / name).mkdir(parents=True)
        for number in (0, 2, 10, 899, 900, 999):
            data = make.aedat2(np.arange(50), rng.integers(0, 1 << 15, 50))
            (folder / name / f"cifar10_{name}_{number}.aedat").write_bytes(data)


def _gesture(folder: Path) -> None:
    folder = folder / "DvsGesture"
    folder.mkdir(parents=True)
    trials = {"train": ["user02_lab", "user01_led"], "test": ["user24_led"]}
    for split, names in trials.items():
        (folder / f"trials_to_{split}.txt").write_text("".join(f"{n}.aedat\n" for n in names))
        for name in names:
            t = np.sort(rng.integers(0, 90_000, 500))
            columns = rng.integers(0, 128, (2, 500)), rng.integers(0, 2, 500)
            (folder / f"{name}.aedat").write_bytes(make.aedat3(t, *columns[0], columns[1]))
            (folder / f"{name}_labels.csv").write_text(
                "class,startTime_usec,endTime_usec\n2,30000,60000\n11,60000,80000\n1,1000,20000\n"
            )


def _shd(folder: Path) -> None:
    folder.mkdir(parents=True)
    for split, labels in (("train", [3, 19, 0]), ("test", [7])):
        times = [np.sort(rng.random(80)).astype(np.float16) for _ in labels]
        units = [rng.integers(0, 700, 80) for _ in labels]
        make.shd_file(folder / f"shd_{split}.h5", times, units, labels)


def _ssc(folder: Path) -> None:
    folder.mkdir(parents=True)
    for split, labels in (("train", [3, 34]), ("test", [7]), ("valid", [1])):
        times = [np.sort(rng.random(80)).astype(np.float16) for _ in labels]
        units = [rng.integers(0, 700, 80) for _ in labels]
        make.shd_file(folder / f"ssc_{split}.h5", times, units, labels)


def _ncaltech(folder: Path) -> None:
    for name in ("airplanes", "BACKGROUND_Google"):
        (folder / "Caltech101" / name).mkdir(parents=True)
        for number in range(1, 6):
            path = folder / "Caltech101" / name / f"image_{number:04d}.bin"
            path.write_bytes(make.write_bin(_camera((2, 180, 240))))


def _ncars(folder: Path) -> None:
    for split in ("train", "test"):
        for name in ("cars", "background"):
            (folder / f"n-cars_{split}" / name).mkdir(parents=True)
            t, x, y, p = _camera((2, 100, 120)).table().T
            pairs = np.stack([t, x | y << 14 | p << 28], 1).astype("<u4")
            head = b"% Data file containing CD events\n% Version 2\n\x0c\x08"
            path = folder / f"n-cars_{split}" / name / "obj_000012_td.dat"
            path.write_bytes(head + pairs.tobytes())


def _ntidigits(folder: Path) -> None:
    import h5py

    folder.mkdir(parents=True)
    with h5py.File(folder / "n-tidigits.hdf5", "w") as file:
        for split, names in (("train", ["man-a-1", "man-a-z", "man-a-1o"]), ("test", ["boy-b-o"])):
            file[f"{split}_labels"] = np.array(names, "S")
            for name in names:
                t = np.sort(rng.random(60))
                file[f"{split}_timestamps/{name}"] = t
                file[f"{split}_addresses/{name}"] = rng.integers(0, 64, 60)


def _plane(folder: Path) -> None:
    folder.mkdir(parents=True)
    for plane in ("Su24", "F117"):
        for number in (2, 10, 160, 161):
            fields = {
                "p": rng.choice([-1, 1], 90).astype(np.int16),
                "ts": np.sort(rng.integers(0, 90_000, 90)).astype(np.float64),
                "x": rng.integers(1, 305, 90).astype(np.float64),
                "y": rng.integers(1, 241, 90).astype(np.float64),
            }
            (folder / f"{plane}_{number}.mat").write_bytes(make.mat_v5("TD", fields))


def _fsdd(folder: Path) -> None:
    (folder / "recordings").mkdir(parents=True)
    for digit, speaker, take in ((0, "ann", 0), (7, "ann", 4), (0, "bob", 5), (0, "ann", 12)):
        sound = np.sin(np.arange(800) * (0.2 + digit / 9))
        make.wav(folder / "recordings" / f"{digit}_{speaker}_{take}.wav", sound)


MAKERS = {
    "nmnist": (_nmnist, [0, 0, 3, 3], [0, 0, 3, 3]),
    "nmnist-stabilised": (_nmnist, [0, 0, 3, 3], [0, 0, 3, 3]),
    "cifar10-dvs": (_cifar, [0] * 4 + [6] * 4, [0, 0, 6, 6]),
    "dvs128-gesture": (_gesture, [0, 1, 10, 0, 1, 10], [0, 1, 10]),
    "dvs128-gesture-10": (_gesture, [0, 1, 0, 1], [0, 1]),
    "shd": (_shd, [3, 19, 0], [7]),
    "ssc": (_ssc, [3, 34], [7]),
    "ncaltech101": (_ncaltech, [0] * 4 + [1] * 4, [0, 1]),
    "ncars": (_ncars, [0, 1], [0, 1]),
    "ntidigits": (_ntidigits, [1, 0], [10]),
    "dvsplane": (_plane, [0, 0, 0, 2, 2, 2], [0, 2]),
    "fsdd": (_fsdd, [0, 0], [0, 7]),
}
IN_FILES = [
    source.events
    for source in registry.sources().values()
    if source.events is not None and not source.events.bundled and source.name != "eventfolder"
]


def _source(name: str) -> EventSet:
    events = registry.source(name).events
    assert events is not None
    return events


def test_every_data_set_with_files_is_tested() -> None:
    assert {events.name for events in IN_FILES} == MAKERS.keys()


@pytest.mark.parametrize("name", MAKERS)
def test_labels_frames_and_notes(name: str, tmp_path: Path) -> None:
    write, train, test = MAKERS[name]
    source = _source(name)
    write(tmp_path / source.events.folder)
    data = source.load(tmp_path)
    assert data.train.labels.tolist() == train and data.test.labels.tolist() == test
    frames = data.train.read(torch.tensor([1, 0]))
    assert frames.shape == (source.events.framing.steps, 2, *data.spec.shape)
    assert frames.dtype == torch.uint8 and frames.sum() > 0
    assert len(data.notes) == 2 + (name == "ssc") and data.spec.kind == "events"
    # the folder itself may be given as well, and the environment may name the one above
    again = source.load(tmp_path / source.events.folder)
    assert torch.equal(again.train.read(torch.tensor([1, 0])), frames)


@pytest.mark.parametrize("events", IN_FILES, ids=lambda events: events.name)
def test_what_is_missing_is_told_with_the_expected_tree(events: EventSet, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        events.open(tmp_path)
    text = str(caught.value)
    assert events.layout.splitlines()[0] in text and events.origin in text and str(tmp_path) in text


def test_the_environment_names_the_data_root(tmp_path: Path, monkeypatch) -> None:
    _nmnist(tmp_path / "NMNIST")
    monkeypatch.setenv("SPIKELOOM_DATA", str(tmp_path))
    assert len(NMNIST.open(None).train.labels) == 4


def _zip(folder: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(folder.rglob("*")):
            out.write(path, path.relative_to(folder.parent))


def _tar(mode: str):
    def pack(folder: Path, archive: Path) -> None:
        with tarfile.open(archive, mode) as out:
            out.add(folder, folder.name)

    return pack


@pytest.mark.parametrize(
    ("suffix", "pack"), [("zip", _zip), ("tar", _tar("w")), ("tar.gz", _tar("w:gz"))]
)
@pytest.mark.parametrize("given", ["archive", "folder"])
def test_an_archive_stands_in_for_its_folder(tmp_path: Path, suffix, pack, given: str) -> None:
    loose, packed = tmp_path / "loose", tmp_path / "packed" / "CIFAR10DVS"
    _cifar(loose / "CIFAR10DVS")
    packed.mkdir(parents=True)
    for name in ("airplane", "frog"):
        pack(loose / "CIFAR10DVS" / name, packed / f"{name}.{suffix}")
    expected = CIFAR10_DVS.open(loose)
    if given == "folder":
        found = CIFAR10_DVS.open(packed)
        assert found.train.labels.tolist() == expected.train.labels.tolist()
    else:
        found = CIFAR10_DVS.open(packed / f"airplane.{suffix}")
        assert found.train.labels.tolist() == [0] * 4
    for index in (0, 3):
        assert np.array_equal(found.train.read(index).table(), expected.train.read(index).table())


@pytest.mark.parametrize("form", ["zip", "gz"])
def test_packed_hdf5_files_are_unpacked_once(tmp_path: Path, own_cache: Path, form: str) -> None:
    _shd(tmp_path / "SHD")
    expected = SHD.open(tmp_path).train.read(1).table()
    for path in sorted((tmp_path / "SHD").glob("*.h5")):
        if form == "gz":
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        else:
            with zipfile.ZipFile(path.with_name(path.name + ".zip"), "w") as out:
                out.write(path, path.name)
        path.unlink()
    for _ in range(2):
        assert np.array_equal(SHD.open(tmp_path).train.read(1).table(), expected)
    assert len(list((own_cache / "unpacked").iterdir())) == 2


def test_a_flipped_byte_in_a_packed_tar_is_seen(tmp_path: Path, own_cache: Path) -> None:
    _cifar(tmp_path / "made")
    with tarfile.open(tmp_path / "plain.tar", "w") as out:
        out.add(tmp_path / "made" / "frog", "frog")
    packed = bytearray(gzip.compress((tmp_path / "plain.tar").read_bytes(), 0))
    packed[packed.index(b"#!AER-DAT2.0") + 30] ^= 1
    (tmp_path / "CIFAR10DVS").mkdir()
    (tmp_path / "CIFAR10DVS" / "frog.tar.gz").write_bytes(packed)
    with pytest.raises(DataError, match=r"frog\.tar\.gz: cannot be unpacked .*CRC"):
        CIFAR10_DVS.open(tmp_path)


def test_a_file_alone_is_read_as_those_of_its_set(tmp_path: Path) -> None:
    _nmnist(tmp_path / "NMNIST")
    spec = DataSpec("nmnist", (2, 34, 34), NMNIST.classes, "events")
    for source in (NMNIST, NMNIST_STABLE):
        train = source.open(tmp_path).train
        content = train.entries[1].read_bytes()  # type: ignore[attr-defined]
        alone = source.recording(content, "alone.bin", {}, spec)
        assert np.array_equal(alone.table(), train.read(1).table())
    assert len(NMNIST_STABLE.recording(b"1\t3\t7\n", "alone.dat", {}, spec)) == 2
    with pytest.raises(DataError, match="has no files of one recording each"):
        SHD.recording(b"", "a.h5", SHD.choices(None), spec)


def test_a_label_of_no_class_is_named(tmp_path: Path) -> None:
    (tmp_path / "SHD").mkdir()
    times = np.array([[0.1], [0.2]], np.float16)
    for split in ("train", "test"):
        make.shd_file(tmp_path / "SHD" / f"shd_{split}.h5", times, [[3], [4]], [1, 20])
    with pytest.raises(DataError, match=r"shd_train\.h5:1: label 20, expected 0 to 19"):
        SHD.open(tmp_path)
    (tmp_path / "SHD" / "shd_test.h5").unlink()
    with pytest.raises(DataError, match=r"shd_train\.h5: the test file beside it is missing"):
        SHD.open(tmp_path)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "CIFAR10DVS"
    folder.mkdir()
    (folder / "airplane.zip").write_bytes(b"PK\3\4 no archive")
    with pytest.raises(DataError, match=r"airplane\.zip"):
        CIFAR10_DVS.open(tmp_path)


def test_a_member_that_points_outside_is_refused(tmp_path: Path, own_cache: Path) -> None:
    folder = tmp_path / "CIFAR10DVS"
    folder.mkdir()
    evil = tmp_path / "evil.aedat"
    evil.write_bytes(b"#")
    with tarfile.open(folder / "airplane.tar.gz", "w:gz") as out:
        out.add(evil, "../../evil_written.aedat")
    with pytest.raises(DataError, match=r"airplane\.tar\.gz"):
        CIFAR10_DVS.open(tmp_path)
    assert not list(tmp_path.rglob("evil_written*"))


def test_splits_of_cifar10_dvs_are_those_of_the_papers() -> None:
    numbers = list(range(1000))[::-1]
    train, test = split_numbers(numbers, "numeric")
    assert train == list(range(900)) and test == list(range(900, 1000))
    train, test = split_numbers(numbers, "sorted")
    assert train[:4] == [0, 1, 10, 100] and len(train) == 900 and test[-1] == 999
    assert sorted(CLASSES) == list(CLASSES)


def test_options_of_a_data_set_change_it_and_wrong_ones_are_named(tmp_path: Path) -> None:
    _cifar(tmp_path / "CIFAR10DVS")
    plain = CIFAR10_DVS.open(tmp_path).train.read(0)
    turned = CIFAR10_DVS.open(tmp_path, {"axes": "yx"}).train.read(0)
    assert np.array_equal(turned.x, 127 - plain.y) and np.array_equal(turned.y, plain.x)
    with pytest.raises(ConfigError, match="split = numeric or sorted"):
        CIFAR10_DVS.open(tmp_path, {"split": "random"})


def test_stabilised_nmnist_is_the_same_from_text_and_from_the_raw_files(tmp_path: Path) -> None:
    _nmnist(tmp_path / "raw" / "NMNIST")
    raw = NMNIST_STABLE.open(tmp_path / "raw")
    for split in ("train", "test"):
        recordings = getattr(raw, split)
        for index, label in enumerate(recordings.labels):
            recording = recordings.read(index)
            channel = 1 + 1156 * recording.p.astype(int) + 34 * recording.y + recording.x
            bins = -(-recording.t // 3000)
            lines = [
                "\t".join(map(str, [one, *bins[channel == one]])) for one in np.unique(channel)
            ]
            path = tmp_path / "text" / split / str(label) / f"{index}.dat"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines))
    text = NMNIST_STABLE.open(tmp_path / "text")
    framing = stable_framing(30)
    for index in range(4):
        one, other = (pair.train.frames(index, framing).counts for pair in (raw, text))
        assert one.max() == 1 and np.array_equal(one, other)


def test_gestures_are_cut_out_of_their_trials(tmp_path: Path) -> None:
    _gesture(tmp_path / "DVSGesture")
    pair = dvsgesture.DVS_GESTURE.open(tmp_path)
    trial = dvsgesture.read_aedat3(pair.train.segments[0].trial.read_bytes())  # type: ignore[attr-defined]
    cut = pair.train.read(1)
    assert np.array_equal(cut.t + 30_000, trial.between(30_000, 60_000).t)
    assert "user01_led" in pair.train.title(0) and "user02_lab" in pair.train.title(3)


def test_a_missing_trial_is_named(tmp_path: Path) -> None:
    _gesture(tmp_path / "DVSGesture")
    (tmp_path / "DVSGesture" / "DvsGesture" / "user01_led_labels.csv").unlink()
    with pytest.raises(DataError, match=r"user01_led_labels\.csv is missing"):
        dvsgesture.DVS_GESTURE.open(tmp_path)


def test_a_data_set_written_in_the_authors_layout_is_read_as_itself(tmp_path: Path) -> None:
    _plane(tmp_path / "raw")
    raw = dvsplane.DVS_PLANE.open(tmp_path / "raw")
    folder = tmp_path / "DVSPlane"
    folder.mkdir()
    for split in ("train", "test"):
        own = getattr(raw, split)
        pairs = [(own.read(i), int(label)) for i, label in enumerate(own.labels)]
        make.write_groups(folder / f"DVSPlane-{split}.hdf5", pairs)
    written = dvsplane.DVS_PLANE.open(tmp_path)
    assert written.train.labels.tolist() == raw.train.labels.tolist()
    for index in range(6):
        assert np.array_equal(written.train.read(index).table(), raw.train.read(index).table())


def test_the_authors_ntidigits_file_equals_the_publishers(tmp_path: Path) -> None:
    _ntidigits(tmp_path / "NTIDIGITS")
    raw = ntidigits.N_TIDIGITS.open(tmp_path)
    sides = [
        [(own.read(i), int(label)) for i, label in enumerate(own.labels)]
        for own in (raw.train, raw.test)
    ]
    make.write_utterances(tmp_path / "NTIDIGITS" / "n-tidigits-single.hdf5", *sides)
    found = ntidigits.N_TIDIGITS.open(tmp_path)
    assert "single" in found.train.title(0)
    for index in range(2):
        assert np.array_equal(found.train.read(index).table(), raw.train.read(index).table())
    assert found.test.labels.tolist() == [10]


def _hdf5_sets(folder: Path):
    _shd(folder / "SHD")
    _ntidigits(folder / "NTIDIGITS")
    make.write_groups(folder / "DVSPlane-train.hdf5", [(_camera((2, 240, 304)), 1)])
    return [
        (SHD, folder / "SHD" / "shd_train.h5", folder),
        (ntidigits.N_TIDIGITS, folder / "NTIDIGITS" / "n-tidigits.hdf5", folder),
    ]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("seed", range(60))
def test_damaged_hdf5_files_are_refused_or_read(tmp_path: Path, which: int, seed: int) -> None:
    data_set, path, root = _hdf5_sets(tmp_path)[which]
    data = bytearray(path.read_bytes())
    draw = np.random.default_rng(seed)
    if seed % 3 == 0:
        data = data[: draw.integers(0, len(data))]
    else:
        for place in draw.integers(0, len(data), 1 + seed % 7):
            data[place] = draw.integers(0, 256)
    path.write_bytes(bytes(data))
    try:
        recordings = data_set.open(root).train
        for index in range(len(recordings.labels)):
            recordings.frames(index, data_set.framing)
    except DataError as error:
        assert path.name in str(error)


@pytest.mark.parametrize("how", ["frequency", "max", "sum", "norm"])
def test_normalised_frames_are_float32(tmp_path: Path, how) -> None:
    _nmnist(tmp_path / "NMNIST")
    data = _source("nmnist").load(tmp_path, Framing(5, "time"), how)
    frames = data.train.read(torch.tensor([0, 2]))
    assert frames.dtype == torch.float32 and frames.shape == (5, 2, 2, 34, 34)
    plane = frames[0, 0, 0]
    if how == "frequency":
        counts = _source("nmnist").load(tmp_path, Framing(5, "time")).train
        assert isinstance(counts, FrameSplit)
        whole = counts.read(torch.tensor([0])).sum()
        length = counts.frames.durations[0]
        assert abs(float((frames[:, 0].sum((1, 2, 3)) * torch.tensor(length)).sum()) - whole) < 1e-2
    else:
        value = {"max": plane.max(), "sum": plane.sum(), "norm": plane.var()}[how]
        torch.testing.assert_close(value, torch.tensor(1.0))


def test_loader_batches_are_time_first(tmp_path: Path) -> None:
    _nmnist(tmp_path / "NMNIST")
    data = _source("nmnist").load(tmp_path)
    batches = list(Loader(data.train, 3, seed_names=(1,), shuffle=True).epoch(0))
    assert [tuple(batch.inputs.shape) for batch in batches] == [
        (10, 3, 2, 34, 34),
        (10, 1, 2, 34, 34),
    ]


def test_digits_events_need_no_files() -> None:
    data = registry.load("digits-events")
    assert (len(data.train), len(data.test)) == (1438, 359) and data.notes == ()
    assert data.spec.shape == (2, 16, 16)
    images = registry.load("digits")
    assert torch.equal(data.train.labels, images.train.labels)
    assert torch.equal(data.test.labels, images.test.labels)
    counts = data.train.read(torch.arange(1438)).sum((0, 2, 3, 4), dtype=torch.int64)
    assert counts.min() > 300 and counts.max() < 5000
