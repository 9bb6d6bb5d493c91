"""Every reader of what a stranger may have written, as a function of bytes, with good examples.

A target parses its bytes or raises an error of the library; anything else is a crash.
"""

import atexit
import contextlib
import hashlib
import io
import os
import pickle
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import safetensors.torch
import torch
from PIL import Image

import event_files as make
from spikeloom.config.data import ImagesConfig
from spikeloom.data.events import formats
from spikeloom.data.events.aedat import read_aedat2, read_aedat3
from spikeloom.data.events.array import spikes
from spikeloom.data.events.atis import read_bin
from spikeloom.data.events.audio import read_wav
from spikeloom.data.files import archive, hdf5, saved_tensors, shards
from spikeloom.data.files import weights as weight_files
from spikeloom.data.images.decode import ImageSplit
from spikeloom.data.sets import cifar, dvsgesture, dvsplane, idx, nmnist, ntidigits, shd
from spikeloom.data.sets.imagefolder import Files
from spikeloom.errors import CheckpointError, SpikeloomError
from spikeloom.methods import catalog
from spikeloom.run import checkpoint, reading, records

rng = np.random.default_rng(0)


@dataclass(frozen=True)
class Target:
    """`parse` reads bytes, given as the file `name` where it wants a file; `seeds` are good."""

    name: str
    parse: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]

    def __call__(self, data: bytes) -> bool:
        """Whether `data` was parsed; False if it was refused with one of our errors."""
        try:
            self.parse(data)
        except SpikeloomError as error:
            if not str(error):
                raise AssertionError("an error says nothing") from error
            return False
        return True


@cache
def folder() -> Path:
    """For readers that want a file; removed when this process ends."""
    place = tempfile.TemporaryDirectory(prefix="spikeloom-fuzz-")
    atexit.register(place.cleanup)
    return Path(place.name)


@contextlib.contextmanager
def as_file(data: bytes, name: str) -> Iterator[Path]:
    path = folder() / f"{os.getpid()}-{name}"
    path.write_bytes(data)
    try:
        yield path
    finally:
        path.unlink()


# Recipes


def parse_recipe(data: bytes) -> None:
    with as_file(data, "stranger.toml") as path:
        recipe = catalog.load_recipe(path)
    if catalog.parse(catalog.dump(recipe)) != recipe:
        raise AssertionError("a recipe does not come back from its text")


def recipes() -> list[bytes]:
    names = ("plif/digits", "plif/digits-events", "ide/digits", "dsr/digits", "fs/digits-events")
    texts = [catalog.dump(catalog.load_recipe(name)) for name in names]
    return [text.encode() for text in texts] + [b'extends = "plif/mnist"\n[network]\nT = 4\n']


def parse_overrides(data: bytes) -> None:
    catalog.load_recipe("plif/digits", data.decode("utf-8", "replace").split("\n"))


def overrides() -> list[bytes]:
    return [
        b"T=4\nepochs=10\nlr=1e-3\nprotocol=B",
        b"data=mnist\nnetwork.channels=8\nneuron=lif\nbatch_size=7",
        b'schedule={name="cosine",T_max=3}\naugment=[{kind="flip",p=0.5}]',
    ]


# Static images


def parse_idx(data: bytes) -> None:
    packed = data[:2] == b"\x1f\x8b"
    with as_file(data, "images.gz" if packed else "images") as path:
        idx.read_idx(path, (28, 28))


def idx_files() -> list[bytes]:
    import gzip

    plain = bytes.fromhex("00000803000000020000001c0000001c") + bytes(2 * 28 * 28)
    return [plain, gzip.compress(plain, 9, mtime=0)]


def parse_cifar(data: bytes) -> None:
    source = cifar.DATA_SETS[0]
    source._decode_python("data_batch_1", data)


def cifar_pickles() -> list[bytes]:
    image = rng.integers(0, 256, (1, 3072)).astype(np.uint8)
    batch = {b"data": image, b"labels": [3], b"batch_label": b"x", b"filenames": [b"a.png"]}
    texts = {"data": image, "labels": [3], "coarse_labels": [1]}
    return [pickle.dumps(batch, protocol) for protocol in (2, 4, 5)] + [pickle.dumps(texts, 2)]


def parse_archive(data: bytes) -> None:
    names = ("a.tar", "a.zip", "a.tar.gz")
    name = names[0 if data[257:262] == b"ustar" else 1 if data[:2] == b"PK" else 2]
    place = folder() / f"cache{os.getpid()}"
    with as_file(data, name) as path:
        try:
            if name == "a.tar.gz":
                unpacked = archive.unpacked(path, place)
                entries = [file for file in unpacked.rglob("*") if file.is_file()]
                if any(not file.resolve().is_relative_to(place) for file in entries):
                    raise AssertionError("something was unpacked elsewhere")
            else:
                for entry in archive.scan(path)[:20]:
                    if entry.size < 1 << 20:
                        entry.read_bytes()
        finally:
            shutil.rmtree(place, ignore_errors=True)


def archives() -> list[bytes]:
    files = {"Train/0/1.bin": b"12345" * 4, "Test/1/2.bin": b"54321"}
    found = []
    for mode in ("w", "w:gz"):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        found.append(out.getvalue())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return [*found, out.getvalue()]


def parse_image(data: bytes) -> None:
    with as_file(data, "stranger.png") as path:
        images = ImagesConfig(size=8, shorter_side=9)
        ImageSplit([0], images, Files([path])).read(torch.tensor([0]))


def image_files() -> list[bytes]:
    pixels = Image.fromarray(rng.integers(0, 256, (9, 12, 3)).astype(np.uint8))
    found = []
    for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP"):
        out = io.BytesIO()
        pixels.save(out, kind)
        found.append(out.getvalue())
    return found


def parse_shards(data: bytes) -> None:
    place = folder() / f"shards{os.getpid()}"
    place.mkdir(exist_ok=True)
    (place / "000000.tar").write_bytes(data)
    (place / shards.INDEX).unlink(missing_ok=True)
    reader = shards.Reader(shards.open_shards(place, (".png",)))
    for index in range(min(len(reader.shards.table), 5)):
        reader.read(index)


def shard_files() -> list[bytes]:
    place = folder() / "written"
    shutil.rmtree(place, ignore_errors=True)
    images = image_files()
    shards.write_shards(place, iter([(images[0], ".png", 0), (images[0], ".png", 3)]), 1 << 20)
    return [(place / "000000.tar").read_bytes()]


def parse_shard_index(data: bytes) -> None:
    place = folder() / f"index{os.getpid()}"
    if not place.exists():
        place.mkdir()
        (place / "000000.tar").write_bytes(shard_files()[0])
    (place / shards.INDEX).write_bytes(data)
    found = shards.open_shards(place, (".png",))
    for index in range(min(len(found.table), 5)):
        shards.Reader(found).read(index)


def shard_indices() -> list[bytes]:
    shard_files()
    return [(folder() / "written" / shards.INDEX).read_bytes()]


# Event recordings and sound


FIELDS = {
    "p": rng.choice([-1, 1], 30).astype(np.int16),
    "ts": np.sort(rng.integers(0, 9000, 30)).astype(np.float64),
    "x": rng.integers(1, 305, 30).astype(np.float64),
    "y": rng.integers(1, 241, 30).astype(np.float64),
}


def mat_files() -> list[bytes]:
    return [
        make.mat_v5("TD", FIELDS),
        make.mat_v5("TD", FIELDS, compressed=False),
        make.mat_v73("TD", FIELDS),
    ]


@contextlib.contextmanager
def as_hdf5(data: bytes) -> Iterator[Path]:
    with as_file(data, "stranger.h5") as path:
        try:
            yield path
        finally:
            hdf5._opened.cache_clear()


def parse_shd(data: bytes) -> None:
    with as_hdf5(data) as path:
        found = shd.open_spikes(path)
        for index in range(min(len(found.labels), 5)):
            found.read(index)


def shd_files() -> list[bytes]:
    path = folder() / "seed.h5"
    make.shd_file(path, [[0.01, 0.02], [0.5]], [[3, 4], [699]], [1, 2])
    return [path.read_bytes()]


def parse_ntidigits(data: bytes) -> None:
    with as_hdf5(data) as path:
        pair = ntidigits.open_utterances(path)
        for split in (pair.train, pair.test):
            for index in range(min(len(split.labels), 5)):
                split.read(index)


def ntidigits_files() -> list[bytes]:
    path = folder() / "seed.hdf5"
    recording = spikes(np.array([100, 900]), np.array([3, 63]), 64)
    make.write_utterances(path, [(recording, 3)], [(recording, 4)])
    return [path.read_bytes()]


def wav_files() -> list[bytes]:
    path = folder() / "seed.wav"
    found = []
    for width, channels in ((2, 1), (1, 2), (3, 1)):
        make.wav(path, np.sin(np.arange(200) / 9), width=width, channels=channels)
        found.append(path.read_bytes())
    return found


# What a run writes


def parse_checkpoint(data: bytes) -> None:
    """A stranger can compute a check sum as well."""
    whole = data + checkpoint._MARK + hashlib.sha256(data).hexdigest().encode() + b"\n"
    with as_file(whole, "last.pt") as path:
        checkpoint.read(path)


def parse_saved_tensors(data: bytes) -> None:
    with as_file(data, "published.pth") as path:
        try:
            saved_tensors.load(path)
        except saved_tensors.RefusedError as error:
            raise CheckpointError(str(error)) from error


def checkpoints() -> list[bytes]:
    state = {
        "format": 1,
        "recipe": "x = 1",
        **dict.fromkeys(("epoch", "step", "global_step", "metrics_bytes"), 3),
        "model": {"a.weight": torch.randn(2, 3), "n": torch.tensor(3)},
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]},
        "scaler": {},
        "gradients": {"a.weight": torch.ones(2, 3)},
        "sums": {"loss_sum": torch.zeros((), dtype=torch.float64)},
        "epoch_seconds": 1.0,
        "run_seconds": 2.0,
        "best": None,
        "confusion": torch.eye(2, dtype=torch.int64),
    }
    return [_saved(state), _saved(state["model"])]


def published() -> list[bytes]:
    state = {"state_dict": {"module.fc.weight": torch.randn(2, 3)}, "acc": 0.9}
    return [_saved(state), _saved(state, _use_new_zipfile_serialization=False)]


def _saved(value: object, **options: bool) -> bytes:
    out = io.BytesIO()
    torch.save(value, out, **options)
    return out.getvalue()


def parse_metrics(data: bytes) -> None:
    with as_file(data, "metrics.jsonl") as path:
        told: list[str] = []
        with contextlib.closing(records.TensorBoard(folder() / f"board{os.getpid()}")) as board:
            board.replay(path, told.append)
        run = folder() / f"run{os.getpid()}"
        run.mkdir(exist_ok=True)
        (run / "recipe.toml").write_text('title = "x"\n')
        shutil.copyfile(path, run / "metrics.jsonl")
        reading.read(run)
        records.read_events(path)


def metrics() -> list[bytes]:
    epoch = (
        b'{"event": "epoch", "epoch": 0, "step": 5, "lr": 0.1, "train_loss": 0.3, '
        b'"train_accuracy": 0.5, "seconds": 1.0, "constants": {"a/tau": {"mean": 2.0, "min": 1, '
        b'"max": 3}}, "scalars": {"w": 0.5}, "test": {"loss": 0.3, "accuracy": 0.4, '
        b'"firing_rates": {"a": 0.1}}, "val": null, "best": {"epoch": 0, "metric": "test accuracy",'
        b' "value": 0.4, "test_accuracy": 0.4}}\n'
    )
    step = b'{"event": "step", "epoch": 0, "step": 0, "loss": 1.5, "accuracy": 0.1, "lr": 0.1}\n'
    end = b'{"event": "end", "best": null, "confusion": [[1, 0], [0, 1]], "seconds": 3.5}\n'
    return [b'{"event": "start", "parameters": 3}\n' + step + epoch + end]


def parse_safetensors(data: bytes) -> None:
    with as_file(data, "weights.safetensors") as path:
        weight_files.read(path)


def safetensors_files() -> list[bytes]:
    return [safetensors.torch.save({"relu1": torch.tensor(1.5), "b": torch.ones(2, 2)})]


def own(name: str) -> Callable[[bytes], object]:
    meaning = formats.Meaning((2, 128, 128))
    return lambda data: formats.decode(data, name, meaning=meaning)


def _own_files() -> dict[str, bytes]:
    rows = np.zeros(30, [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1")])
    rows["t"] = np.arange(30)
    npy, h5 = io.BytesIO(), io.BytesIO()
    np.save(npy, rows)
    with h5py.File(h5, "w") as file:
        file["CD/events"] = rows
    words = np.array([0x8001, 0x6002, 7, 0x2005, 0x3805, 0x4005, 0x5003], "<u2").tobytes()
    pairs = np.array([5, 3 | 4 << 14 | 1 << 28] * 5, "<u4").tobytes()
    text = "".join(f"{t},{x},{y},{p}\n" for t, x, y, p in rows.tolist())
    return {
        ".raw": b"% evt 3.0\n% end\n" + words * 4,
        ".dat": b"% Version 2\n\x0c\x08" + pairs,
        ".csv": b"t,x,y,p\n" + text.encode(),
        ".npy": npy.getvalue(),
        ".h5": h5.getvalue(),
    }


OWN = _own_files()
COORDINATE = rng.integers(0, 128, 30)

TARGETS = {
    target.name: target
    for target in (
        Target("recipe", parse_recipe, recipes),
        Target("overrides", parse_overrides, overrides),
        Target("idx", parse_idx, idx_files),
        Target("cifar", parse_cifar, cifar_pickles),
        Target("archive", parse_archive, archives),
        Target("image", parse_image, image_files),
        Target("shard", parse_shards, shard_files),
        Target("shard-index", parse_shard_index, shard_indices),
        Target(
            "nmnist-bin",
            read_bin,
            lambda: [rng.integers(0, 34, (40, 5)).astype(np.uint8).tobytes()],
        ),
        Target(
            "nmnist-text", nmnist.read_stable_text, lambda: [b"1\t3\t7\n1157\t1\n2312\t100\t101\n"]
        ),
        Target(
            "aedat2",
            read_aedat2,
            lambda: [make.aedat2(np.arange(30), rng.integers(0, 1 << 15, 30))],
        ),
        Target(
            "aedat3",
            read_aedat3,
            lambda: [make.aedat3(np.arange(30), COORDINATE, COORDINATE, COORDINATE & 1)],
        ),
        Target(
            "gesture-labels",
            dvsgesture.read_labels,
            lambda: [b"class,startTime_usec,endTime_usec\n1,0,50\n11,60,70\n"],
        ),
        *(
            Target(f"own{suffix}", own(f"a{suffix}"), lambda suffix=suffix: [OWN[suffix]])
            for suffix in (".raw", ".dat", ".csv", ".npy", ".h5")
        ),
        Target("mat", dvsplane.read_mat, mat_files),
        Target("shd-h5", parse_shd, shd_files),
        Target("ntidigits-h5", parse_ntidigits, ntidigits_files),
        Target("wav", read_wav, wav_files),
        Target("checkpoint", parse_checkpoint, checkpoints),
        Target("saved-tensors", parse_saved_tensors, published),
        Target("metrics", parse_metrics, metrics),
        Target("safetensors", parse_safetensors, safetensors_files),
    )
}
