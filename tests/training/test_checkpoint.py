"""Checkpoint files: whole or recognised as not whole, and never in the way of the one before."""

import errno
import os
import resource
from pathlib import Path

import pytest
import torch

from spikeloom.errors import CheckpointError
from spikeloom.run import checkpoint
from spikeloom.run.checkpoint import Checkpoints, State, read, recipe_difference, write


def state(epoch: int = 0, size: int = 50) -> State:
    return {
        "format": checkpoint.FORMAT,
        "recipe": 'method = "tiny"\n',
        "epoch": epoch,
        "step": 0,
        "global_step": 5 * epoch,
        "model": {"weight": torch.arange(float(size)) + epoch},
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]},
        "scaler": {},
        "gradients": {},
        "sums": {"loss_sum": torch.tensor(0.5), "confusion": torch.eye(2)},
        "epoch_seconds": 1.0,
        "run_seconds": 2.0,
        "best": None,
        "confusion": None,
        "metrics_bytes": 12,
        "callbacks": {},
    }


def accept(path: Path, state: State) -> None:
    """Every checkpoint is of this run."""


@pytest.fixture
def store(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints")


def saved(store: Checkpoints, *epochs: int) -> None:
    for epoch in epochs:
        store.save(state(epoch))


def test_what_was_written_is_read(tmp_path):
    write(tmp_path / "x.pt", state(3))
    again = read(tmp_path / "x.pt")
    assert again["epoch"] == 3
    assert torch.equal(again["model"]["weight"], state(3)["model"]["weight"])
    assert again["optimizer"]["param_groups"] == [{"lr": 0.1}]


def test_plain_torch_reads_the_file(tmp_path):
    write(tmp_path / "x.pt", state(3))
    assert torch.load(tmp_path / "x.pt", weights_only=True)["epoch"] == 3


def test_equal_states_are_equal_files(tmp_path):
    for name in "ab":
        write(tmp_path / name, state(1))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_flipped_byte_anywhere_is_recognised(tmp_path):
    path = tmp_path / "x.pt"
    write(path, state())
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :])
        with pytest.raises(CheckpointError, match=r"x\.pt is (damaged|cut short)"):
            read(path)
    path.write_bytes(whole)
    assert read(path)["epoch"] == 0


def test_a_file_cut_short_anywhere_is_recognised(tmp_path):
    path = tmp_path / "x.pt"
    write(path, state())
    whole = path.read_bytes()
    for size in [0, 1, 60, *range(100, len(whole), 53), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"x\.pt is (cut short|damaged)"):
            read(path)


def test_a_file_of_another_kind_is_recognised(tmp_path):
    torch.save({"epoch": 1}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="no checkpoint of format 1"):
        read(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"cannot read .*No such file"):
        read(tmp_path / "y.pt")


def test_last_previous_and_best_rotate(store):
    saved(store, 0, 1)
    store.keep_best(store.last)
    saved(store, 2)
    store.keep_best(store.last)
    store.keep_best(store.last)
    saved(store, 3, 4)
    epochs = {path.stem: read(path)["epoch"] for path in store.folder.iterdir()}
    assert epochs == {"last": 4, "previous": 3, "best": 2}


def test_it_works_without_hard_links(store, monkeypatch):
    def refuse(*args: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    test_last_previous_and_best_rotate(store)


def test_the_newest_whole_checkpoint_is_used_and_the_other_named(store):
    assert store.newest(accept, print) is None
    saved(store, 0, 1)
    store.last.write_bytes(store.last.read_bytes()[:-1])
    told: list[str] = []
    found = store.newest(accept, told.append)
    assert found is not None
    assert found[0] == store.previous
    assert found[1]["epoch"] == 0
    reason = f"{store.last} is cut short or no checkpoint of format 1"
    assert told == [f"{reason}; going on from previous.pt, epoch 0"]
    # The good one stays the one to fall back to while the next is written.
    assert not store.last.exists()
    saved(store, 1)
    assert read(store.previous)["epoch"] == 0


def test_best_is_the_last_resort(store):
    saved(store, 0)
    store.keep_best(store.last)
    saved(store, 1, 2)
    for path in (store.last, store.previous):
        content = bytearray(path.read_bytes())
        content[200] ^= 1
        path.write_bytes(content)
    told: list[str] = []
    found = store.newest(accept, told.append)
    assert found is not None
    assert found[0] == store.best
    assert [line.split(" is ")[0] for line in told] == [str(store.last), str(store.previous)]


def test_if_none_is_usable_the_error_says_why_and_nothing_is_moved(store):
    saved(store, 0, 1)
    store.last.write_bytes(b"")

    def refuse(path: Path, state: State) -> None:
        raise CheckpointError(f"{path} is of another recipe: seed = 1 there, 2 in recipe.toml")

    with pytest.raises(CheckpointError) as error:
        store.newest(refuse, print)
    text = str(error.value)
    assert "last.pt is cut short" in text
    assert "previous.pt is of another recipe: seed = 1" in text
    assert sorted(path.name for path in store.folder.iterdir()) == ["last.pt", "previous.pt"]


@pytest.mark.parametrize("room", [0, 100, 2000])
def test_a_full_disk_leaves_the_old_checkpoint_and_says_what_is_needed(store, monkeypatch, room):
    saved(store, 0, 1)
    need = store.last.stat().st_size
    write_bytes = checkpoint._HashingFile.write

    class Full:
        """A file on a disk with `room` bytes left."""

        def __init__(self, file):
            self.file, self.left = file, room

        def write(self, data):
            self.left -= len(data)
            if self.left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(data)

    def limited(self, data):
        if not isinstance(self._file, Full):
            self._file = Full(self._file)
        return write_bytes(self, data)

    monkeypatch.setattr(checkpoint._HashingFile, "write", limited)
    with pytest.raises(CheckpointError) as error:
        saved(store, 2)
    text = str(error.value)
    assert "\n" not in text
    assert f"no room in {store.folder}: a checkpoint needs {need:,} bytes" in text
    assert {path.stem: read(path)["epoch"] for path in store.folder.iterdir()} == {
        "last": 1,
        "previous": 0,
    }


def test_a_real_file_size_limit_is_met_the_same_way(store):
    saved(store, 0)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        try:
            store.save(state(1, size=5000))
            os.write(write_end, b"no error")
        except CheckpointError as error:
            os.write(write_end, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    text = os.read(read_end, 10000).decode()
    assert "no room in" in text
    assert "File too large" in text
    assert [path.name for path in store.folder.iterdir()] == ["last.pt"]
    assert read(store.last)["epoch"] == 0


def test_recipes_differ_by_what_changes_numbers():
    data = {"root": "x", "batch_size": 4}
    base = {"seed": 1, "title": "a", "data": data, "training": {"epochs": 3}}
    assert recipe_difference(base, base) is None
    free = base | {"title": "b", "data": data | {"root": "y"}, "training": {"epochs": 9}}
    assert recipe_difference(base, free | {"checkpoint": {"every_steps": 5}}) is None
    assert (
        recipe_difference(base, base | {"data": data | {"batch_size": 8}})
        == "data.batch_size = 4 there, 8 in recipe.toml"
    )
    assert recipe_difference(base, base | {"training": {"epochs": 3, "threads": 2}}) == (
        "training.threads = not set there, 2 in recipe.toml"
    )
