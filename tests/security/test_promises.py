"""What docs/security.md promises: no file of a stranger runs code or is written elsewhere."""

import ast
import gzip
import io
import os
import pickle
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import event_files as make
import spikeloom
from spikeloom import report, training
from spikeloom.cache_home import check_trust, distrust
from spikeloom.data.events import cache
from spikeloom.data.events.frames import Frames, Framing, integrate
from spikeloom.data.files import archive, saved_tensors
from spikeloom.data.files.pickles import read_pickle
from spikeloom.data.images import decode
from spikeloom.errors import CheckpointError, ConfigError, DataError, SpikeloomError
from spikeloom.methods import catalog
from spikeloom.run import checkpoint

SOURCE = Path(spikeloom.__file__).parent


# No part of the library runs what it reads.

# (file, call) -> why it is no input of a stranger
ALLOWED = {
    ("compiler/cache.py", "compile"): "the compiler's own text, from memory",
    ("compiler/cache.py", "exec"): "the compiler's own text, from memory",
    (
        "compiler/cpu/machine_code.py",
        "pickle.loads",
    ): "checked by sum, owner and mode in cache.read",
    ("compiler/front/comparing.py", "exec"): "a comparison of its own making, values as arguments",
    ("testing.py", "pickle.loads"): "of a neuron that it has just pickled",
    ("data/files/saved_tensors.py", "torch.load"): "with weights_only, checked below",
}
RUNS_CODE = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "exec_module",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "torch.load",
    "marshal.loads",
    "os.system",
    "os.popen",
    "yaml.load",
    "joblib.load",
    "shelve.open",
}


def called(node: ast.Call) -> str:
    name = ast.unparse(node.func)
    # methods that run modules are told by their own name, whatever they are called on
    return "exec_module" if name.endswith(".exec_module") else name


def test_nothing_in_the_library_runs_input():
    found = {}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name, keywords = called(node), {k.arg: ast.unparse(k.value) for k in node.keywords}
            place = (path.relative_to(SOURCE).as_posix(), name)
            if name in RUNS_CODE:
                found[place] = keywords
            assert keywords.get("shell") in (None, "False"), place
            assert keywords.get("allow_pickle") in (None, "False"), place
    assert found.keys() == ALLOWED.keys()
    assert found["data/files/saved_tensors.py", "torch.load"]["weights_only"] == "True"


@pytest.mark.parametrize(
    "text",
    [
        "title = \"x\"\nmethod = \"__import__('os').system('touch {0}')\"",
        'extends = "plif/digits"\nnotes = "{{{{7*7}}}} $(touch {0}) `touch {0}`"',
        'extends = "plif/digits"\n[network]\nneuron = "os:system"',
        'extends = "plif/digits"\n[training]\nbackend = "eval"',
    ],
)
def test_a_recipe_is_data(tmp_path: Path, text: str) -> None:
    path = tmp_path / "stranger.toml"
    path.write_text(text.format(tmp_path / "done"))
    try:
        catalog.dump(catalog.load_recipe(path))
    except ConfigError as error:
        assert str(error)
    assert not (tmp_path / "done").exists()


# Checkpoints


class Attack:
    """Makes a file where it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def attacks(target: Path) -> dict[str, bytes]:
    """A pickle that runs code, as torch.save writes it: new, old, and bare."""
    files = {}
    for name, options in {"zip": {}, "old": {"_use_new_zipfile_serialization": False}}.items():
        out = io.BytesIO()
        torch.save({"state_dict": {"a": Attack(target)}}, out, **options)
        files[name] = out.getvalue()
    return files | {"bare": pickle.dumps(Attack(target))}


@pytest.mark.parametrize("kind", ["zip", "old", "bare"])
def test_a_checkpoint_runs_nothing(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "done"
    data = attacks(target)[kind]
    with pytest.raises(saved_tensors.RefusedError):
        saved_tensors.load(io.BytesIO(data))
    # our own form too, with a check sum that is right
    path = tmp_path / "last.pt"
    digest = checkpoint.hashlib.sha256(data).hexdigest().encode()
    path.write_bytes(data + checkpoint._MARK + digest + b"\n")
    with pytest.raises(CheckpointError, match="something else than tensors"):
        checkpoint.read(path)
    assert not target.exists()


@pytest.mark.parametrize("method", ["glif", "dsr", "fs", "ide"])
@pytest.mark.parametrize("kind", ["zip", "old", "bare"])
def test_a_published_checkpoint_runs_nothing(tmp_path: Path, method: str, kind: str) -> None:
    target, path = tmp_path / "done", tmp_path / "published.pth"
    path.write_bytes(attacks(target)[kind])
    with pytest.raises(CheckpointError):
        catalog.methods()[method].read_checkpoint(path, torch.nn.Module())  # type: ignore[arg-type]
    assert not target.exists()


def repacked(change: Callable[[str, bytes], bytes], compression: int = 0) -> bytes:
    """A saved tensor whose records went through `change`."""
    out, packed = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.arange(4.0)}, out)
    with zipfile.ZipFile(out) as old, zipfile.ZipFile(packed, "w", compression) as new:
        for record in old.infolist():
            new.writestr(record.filename, change(record.filename, old.read(record)))
    return packed.getvalue()


def test_a_small_checkpoint_stays_small() -> None:
    tera = b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R."
    files = {
        "MemoryError|.": repacked(lambda n, d: tera if n.endswith("data.pkl") else d),
        "compressed": repacked(
            lambda n, d: bytes(1 << 24) if n.endswith("data/0") else d, zipfile.ZIP_DEFLATED
        ),
    }
    for reason, data in files.items():
        with pytest.raises(saved_tensors.RefusedError, match=reason):
            saved_tensors.load(io.BytesIO(data))
    assert saved_tensors.load(io.BytesIO(repacked(lambda n, d: d)))["a"].tolist() == [0, 1, 2, 3]  # type: ignore[index]


def test_a_cifar_pickle_runs_nothing(tmp_path: Path) -> None:
    for protocol in (0, 2, 4, 5):
        with pytest.raises(DataError):
            read_pickle(pickle.dumps(Attack(tmp_path / "done"), protocol), "data_batch_1")
    assert not (tmp_path / "done").exists()


# Images


def test_no_image_starts_a_program(monkeypatch) -> None:
    """Pillow would give EPS, whatever the file is called, to Ghostscript."""

    def start(*given: object, **options: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(subprocess, "check_call", start)
    postscript = (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(DataError, match=r"a\.png: cannot be decoded as an image"):
        decode.open_image(postscript, "a.png", lambda image: image)


# Archives


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


ESCAPES = {
    "parent": [member("../outside")],
    "absolute": [member("{0}/outside")],
    "symbolic link": [member("way", tarfile.SYMTYPE, "{0}"), member("way/outside")],
    "hard link": [member("way", tarfile.LNKTYPE, "../../secret"), member("way")],
    "device": [member("way", tarfile.CHRTYPE)],
    "pipe": [member("way", tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("infos", ESCAPES.values(), ids=ESCAPES.keys())
def test_a_packed_tar_cannot_leave_its_folder(tmp_path: Path, infos) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (tmp_path / "secret").write_text("mine")
    path = tmp_path / "stranger.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for info in infos:
            info = tarfile.TarInfo.frombuf(info.tobuf(), "utf-8", "strict")
            info.name = info.name.format(outside)
            info.linkname = info.linkname.format(outside)
            content = b"" if info.type != tarfile.REGTYPE else b"evil"
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    before = {file for file in tmp_path.rglob("*") if "cache" not in file.parts}
    # an absolute name may be taken as one below the folder
    try:
        folder = archive.unpacked(path, tmp_path / "cache" / "unpacked")
    except DataError as error:
        assert "cannot be unpacked" in str(error) or "cannot be read" in str(error)
    else:
        assert all(file.resolve().is_relative_to(folder) for file in folder.rglob("*"))
    assert {file for file in tmp_path.rglob("*") if "cache" not in file.parts} == before
    assert (tmp_path / "secret").read_text() == "mine"


def test_members_of_a_zip_or_tar_are_read_where_they_are(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("../../outside", b"evil")
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        for info in (member("../../outside"), member("way", tarfile.SYMTYPE, "/etc/passwd")):
            info.size = 4 if info.type == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"evil"))
    before = sorted(tmp_path.rglob("*"))
    found = [(entry.member, entry.read_bytes()) for entry in archive.scan(tmp_path)]
    assert found == [("../../outside", b"evil")] * 2
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unpacked_gz_is_a_file_of_its_own_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SPIKELOOM_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "shd.h5.gz"
    with open(path, "wb") as file, gzip.GzipFile("../../outside", "wb", fileobj=file) as packed:
        packed.write(b"x")
    entry = archive.scan(path)[0]
    plain = archive.local(entry)
    assert plain.parent == tmp_path / "cache" / "unpacked" and plain.read_bytes() == b"x"


# Caches


class Recordings:
    """Two empty recordings."""

    labels = np.arange(2)
    size = (2, 4, 6)

    def fingerprint(self) -> str:
        return "two"

    def title(self, index: int) -> str:
        return str(index)

    def frames(self, index: int, framing: Framing) -> Frames:
        return integrate(make.nothing(self.size), framing)


def prepare(home: Path) -> cache.Prepared:
    return cache.prepared("two-train", Recordings(), Framing(3), workers=1, root=home)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
@pytest.mark.parametrize("depth", ["cache", "frames", "set"])
def test_frames_that_others_may_write_to_are_not_used(tmp_path: Path, mode: int, depth: str):
    home = tmp_path / "cache"
    made = prepare(home).folder
    place = {"cache": home, "frames": home / "frames", "set": made}[depth]
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    place.chmod(mode)
    with pytest.raises(DataError, match=r"others may write to .*: make it yours alone"):
        prepare(home)
    place.chmod(0o755)
    assert prepare(home).folder == made


def test_data_of_another_user_is_not_used(tmp_path: Path, monkeypatch) -> None:
    real = tmp_path.stat()
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    other = os.stat_result((0o40755, 1, 1, 1, 1001, 0, 0, 0, 0, 0))
    monkeypatch.setattr(Path, "stat", lambda path, **_: other if path == tmp_path else real)
    with pytest.raises(DataError, match="belongs to another user"):
        check_trust(tmp_path)
    assert distrust(tmp_path) is not None


def test_an_archive_is_not_unpacked_where_others_may_write(tmp_path: Path) -> None:
    path, below = tmp_path / "a.tar.gz", tmp_path / "cache" / "unpacked"
    with tarfile.open(path, "w:gz"):
        pass
    below.mkdir(parents=True)
    below.chmod(0o777)
    with pytest.raises(DataError, match="others may write to"):
        archive.unpacked(path, below)


@pytest.mark.parametrize("name", ["durations.npy", "part-00000.npy"])
def test_prepared_frames_hold_no_objects(tmp_path: Path, name: str) -> None:
    """A pickled array of the right size in their place is refused."""
    found = prepare(tmp_path / "cache")
    path = found.folder / name
    size = path.stat().st_size
    target = tmp_path / "done"
    out = io.BytesIO()
    np.save(out, np.array([Attack(target)], object), allow_pickle=True)
    path.write_bytes(out.getvalue()[:size].ljust(size, b"\0"))
    with pytest.raises(DataError, match="damaged: clear the cache"):
        again = prepare(tmp_path / "cache")
        assert again.durations.size
        again.read(np.array([0]))
    assert not target.exists()


# Run folders

LEADING = ("lock", "metrics.jsonl", "checkpoints", "tensorboard")
REPLACED = ("environment.json", "weights.safetensors", "report.html", "checkpoints/last.pt")


@pytest.mark.parametrize("kind", ["link", "dangling link", "second name"])
@pytest.mark.parametrize("names", [*((name,) for name in LEADING), REPLACED], ids=lambda n: n[0])
def test_a_run_folder_leads_nowhere(tmp_path: Path, monkeypatch, names, kind: str) -> None:
    """Resumed and reported, it changes and makes nothing outside; what it cannot use it refuses."""
    if kind == "second name" and names[0] in ("checkpoints", "tensorboard"):
        return
    monkeypatch.chdir(tmp_path)
    outside, run = tmp_path / "outside", tmp_path / "run"
    outside.mkdir()
    (outside / "last.pt").write_text("precious")
    changes = ["epochs=1", "T=1", "channels=2", "hidden=8", "backend=eager", "threads=1"]
    for name in names:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        folder = name in ("checkpoints", "tensorboard")
        target = outside if folder else outside / "last.pt"
        if kind == "second name":
            os.link(target, run / name)
        else:
            (run / name).symlink_to(target if kind == "link" else outside / "new")
    (run / "recipe.toml").write_text(catalog.dump(catalog.load_recipe("plif/digits", changes)))
    for action in (training.resume, lambda run: report.write([run], samples=4)):
        try:
            action(run)
        except SpikeloomError as error:
            assert str(error) and "\n" not in str(error)
    assert [path.name for path in outside.iterdir()] == ["last.pt"]
    assert (outside / "last.pt").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "run"]
