"""Prepared frames: right, never stale, never half-done."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from spikeloom.data.events import cache
from spikeloom.data.events.array import Events, events
from spikeloom.data.events.frames import Frames, Framing, integrate
from spikeloom.errors import DataError

SIZE = (2, 4, 6)


@dataclass(frozen=True)
class Made:
    """`count` recordings, each a function of its index; `slow` seconds each; `bad` is damaged."""

    count: int = 23
    events_each: int = 300
    slow: float = 0.0
    bad: int = -1
    stamp: str = "a"
    size: tuple[int, int, int] = SIZE

    @property
    def labels(self):
        return np.arange(self.count) % 3

    def fingerprint(self) -> str:
        return f"{self}"

    def title(self, index: int) -> str:
        return str(index)

    def read(self, index: int) -> Events:
        time.sleep(self.slow)
        if index == self.bad:
            raise DataError(f"recording {index}: damaged")
        rng = np.random.default_rng(index)
        columns = [rng.integers(0, side, self.events_each) for side in (6, 4, 2)]
        return events(np.sort(rng.integers(0, 999, self.events_each)), *columns, size=SIZE)

    def frames(self, index: int, framing: Framing) -> Frames:
        return integrate(self.read(index), framing)


FRAMING = Framing(3)


@pytest.mark.parametrize("workers", [1, 3])
def test_prepared_frames_are_the_integrated_ones(monkeypatch, workers: int) -> None:
    monkeypatch.setattr(cache, "PART_BYTES", 1000)  # several parts
    told: list[tuple[int, int]] = []
    found = cache.prepared(
        "made-train", Made(), FRAMING, workers=workers, progress=lambda *n: told.append(n)
    )
    assert len(found.parts) > 3 and told[-1] == (23, 23)
    indices = np.array([22, 0, 7, 7])
    frames = [integrate(Made().read(int(index)), FRAMING) for index in indices]
    read = found.read(indices)
    assert read.dtype == np.uint8
    assert np.array_equal(read, np.stack([frame.counts for frame in frames], 1))
    assert np.array_equal(found.durations[indices], [frame.durations for frame in frames])
    found.verify()


def test_counts_above_255_widen_the_read_type_only_where_they_occur() -> None:
    many = cache.prepared("made-train", Made(2, events_each=60_000), Framing(2))
    read = many.read(np.array([1, 0]))
    assert read.dtype == np.int32 and read.max() > 255
    assert read.sum() == 2 * 60_000


def test_a_second_call_reads_nothing(monkeypatch) -> None:
    first = cache.prepared("made-train", Made(), FRAMING)
    monkeypatch.setattr(Made, "read", None)
    assert cache.prepared("made-train", Made(), FRAMING).folder == first.folder


def test_the_key_changes_with_all_that_the_counts_depend_on(monkeypatch) -> None:
    keys = {
        cache.cache_key(recordings, framing)
        for recordings in (Made(), Made(stamp="b"))
        for framing in (
            FRAMING,
            Framing(4),
            Framing(3, "time"),
            Framing(3, "window", 10),
            Framing(3, "window", 20),
            Framing(3, "window", 20, origin=0),
            replace(FRAMING, binary=True),
            replace(FRAMING, downsample=(2, 2)),
            replace(FRAMING, empty=1),
        )
    }
    monkeypatch.setattr(cache, "VERSION", 99)
    assert len(keys) == 18 and cache.cache_key(Made(), FRAMING) not in keys


@pytest.mark.parametrize("damage", ["cut", "missing", "meta", "durations"])
def test_a_damaged_preparation_is_made_again(damage: str) -> None:
    first = cache.prepared("made-train", Made(), FRAMING)
    expected = first.read(np.arange(23)).copy()
    part = first.folder / "part-00000.npy"
    match damage:
        case "cut":
            part.write_bytes(part.read_bytes()[:-5])
        case "missing":
            part.unlink()
        case "meta":
            (first.folder / "meta.json").write_text('{"version": 1, "cou')
        case "durations":
            (first.folder / "durations.npy").unlink()
    again = cache.prepared("made-train", Made(), FRAMING)
    assert np.array_equal(again.read(np.arange(23)), expected)
    assert again.durations.shape == (23, 3)


def test_a_flipped_byte_is_found_by_its_check_sum() -> None:
    found = cache.prepared("made-train", Made(), FRAMING)
    part = found.folder / "part-00000.npy"
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(bytes(data))
    with pytest.raises(DataError, match="part-00000"):
        found.verify()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_damaged_recording_leaves_nothing_behind(
    own_cache: Path, monkeypatch, workers: int
) -> None:
    monkeypatch.setattr(cache, "PART_BYTES", 1000)
    good = cache.prepared("made-train", Made(), FRAMING)
    with pytest.raises(DataError, match="recording 17: damaged"):
        cache.prepared("made-train", Made(bad=17), FRAMING, workers=workers)
    folders = [path for path in own_cache.glob("frames/*") if path.is_dir()]
    assert folders == [good.folder]


def test_an_empty_split_is_prepared_too() -> None:
    found = cache.prepared("made-test", Made(0), FRAMING)
    assert found.count == 0 and found.read(np.zeros(0, np.int64)).shape == (3, 0, *SIZE)


def test_a_full_disk_is_told_before_the_work(monkeypatch) -> None:
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: type("U", (), {"free": 100}))
    with pytest.raises(DataError, match="do not fit"):
        cache.prepared("made-train", Made(), FRAMING)


def test_a_cache_that_cannot_be_written_is_named(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPIKELOOM_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="SPIKELOOM_CACHE"):
        cache.prepared("made-train", Made(), FRAMING)


def test_clearing_one_set_leaves_the_others() -> None:
    for name in ("shd-train", "shd-test", "shd-x-train"):
        cache.prepared(name, Made(), FRAMING)
    assert len(cache.stored()) == 3
    assert cache.clear("shd") > 0
    assert [found.folder.name.rsplit("-", 1)[0] for found in cache.stored()] == ["shd-x-train"]
    cache.clear()
    assert cache.stored() == []


SCRIPT = """
import sys
sys.path.insert(0, {here!r})
from test_cache import Made, FRAMING
from spikeloom.data.events import cache
cache.PART_BYTES = 100
print("start", flush=True)
print(cache.prepared("made-train", Made(slow={slow}), FRAMING, workers={workers}).folder)
"""


def _start(slow: float, workers: int) -> subprocess.Popen[str]:
    """In a process group of its own."""
    script = SCRIPT.format(here=str(Path(__file__).parent), slow=slow, workers=workers)
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert child.stdout and child.stdout.readline() == "start\n"
    return child


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_preparation_leaves_nothing_that_is_read(own_cache: Path, workers: int) -> None:
    child = _start(slow=0.05, workers=workers)
    deadline = time.monotonic() + 30
    while not list(own_cache.glob("frames/.made-train-*/part-*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert cache.stored() == []
    found = cache.prepared("made-train", Made(slow=0.05), FRAMING, workers=1)
    assert found.count == 23
    assert list(own_cache.glob("frames/.made-train-*")) == []  # the remains are gone


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGHUP])
def test_processes_that_prepare_frames_end_with_their_parent(own_cache: Path, end: int) -> None:
    child = _start(slow=0.05, workers=2)
    deadline = time.monotonic() + 30
    while not list(own_cache.glob("frames/.made-train-*/part-*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(child.pid, end)
    child.communicate()
    while time.monotonic() < deadline:
        try:
            os.killpg(child.pid, 0)
        except ProcessLookupError:  # nobody is left in the group
            return
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)
    raise AssertionError("processes outlived the one that started them")


def test_two_processes_may_prepare_at_once() -> None:
    children = [_start(slow=0.02, workers=1) for _ in range(2)]
    # not communicate(): the buffer behind readline may hold the folder's line already
    folders = {child.stdout.read() for child in children if child.stdout}
    assert len(folders) == 1 and len(cache.stored()) == 1
    assert all(child.wait() == 0 for child in children)
    for child in children:
        child.communicate()
    cache.stored()[0].verify()


def test_workers_import_no_torch() -> None:
    script = "import sys, spikeloom.data.events.parts\n"
    script += "import spikeloom.data.sets.nmnist, spikeloom.data.sets.fsdd\n"
    script += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
