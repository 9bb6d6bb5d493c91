"""An interrupted run that is resumed equals the uninterrupted one, bit for bit."""

import math
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from run_folders import scalars
from spikeloom.errors import CheckpointError, RunError
from spikeloom.methods import catalog
from spikeloom.run import checkpoint
from spikeloom.run.checkpoint import read
from spikeloom.run.reading import read_events
from spikeloom.training import position, resume, train
from spikeloom.training.position import Best
from spikeloom.training.trainer import Trainer

from .conftest import TinyClassifier, assert_same_run, recorded


class Killed(BaseException):
    """Stands for kill -9: nothing in the library catches it."""


@pytest.fixture
def interrupted(recipe, screen, tmp_path, monkeypatch) -> Callable[..., Path]:
    """Trains until `owner.name` is called for the `count`-th time, which never returns."""

    def run(owner: object, name: str, count: int, *overrides: str) -> Path:
        with monkeypatch.context() as patch:
            die_at(patch, owner, name, count)
            with pytest.raises(Killed):
                train(recipe(*overrides), tmp_path / "cut", console=screen.console)
        return tmp_path / "cut"

    return run


def die_at(patch: pytest.MonkeyPatch, owner: object, name: str, count: int) -> None:
    """The `count`-th call of `owner.name` raises Killed instead of doing anything."""
    calls = 0
    original = getattr(owner, name)

    def counted(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == count:
            raise Killed
        return original(*args, **kwargs)

    patch.setattr(owner, name, counted)


@pytest.fixture
def whole(recipe, screen, tmp_path) -> Callable[..., Path]:
    """An uninterrupted run."""
    return lambda *overrides: (
        train(recipe(*overrides), tmp_path / "whole", console=screen.console).folder
    )


VARIANTS = {
    "adam": ("checkpoint.every_steps=2",),
    "accumulated": ("accumulate=2", "drop_last=false", "checkpoint.every_steps=1"),
    "protocol-B": ("protocol=B", "validation=published", "val_ratio=0.3", "every_epochs=2"),
    "float16": ("precision=float16", "checkpoint.every_steps=2"),
    "carried": ("carry_gradients=true", "clip_norm=0.1", "checkpoint.every_steps=2"),
    "rate of each step": ("schedule=linear", "T_max=2", "each_step=true"),
    "callbacks": (
        'callbacks=[{ kind = "ema", decay = 0.9 }, { kind = "mixup" }, '
        '{ kind = "time_curriculum" }, { kind = "early_stopping", patience = 2 }]',
        "checkpoint.every_steps=2",
    ),
    "bfloat16 sgd": ("precision=bfloat16", "optimizer=sgd", "momentum=0.9", "every_epochs=2"),
}


@pytest.mark.parametrize("step", [1, 4, 5, 6, 8])
@pytest.mark.parametrize("overrides", VARIANTS.values(), ids=VARIANTS.keys())
def test_killed_in_a_step_and_resumed(interrupted, whole, screen, overrides, step):
    accumulated = any(text.startswith("accumulate") for text in overrides)
    cut = interrupted(Trainer, "add_gradients", step * (1 + accumulated) - accumulated, *overrides)
    resume(cut, console=screen.console)
    assert_same_run(cut, whole(*overrides))


@pytest.mark.parametrize("name", ["replace", "link", pytest.param("fsync", marks=pytest.mark.slow)])
def test_killed_between_any_two_changes_of_the_disk(
    recipe, whole, screen, tmp_path, monkeypatch, name
):
    """Before every rename, second name, and flush: of recipe, record, checkpoints, weights."""
    overrides = ("epochs=2", "checkpoint.every_steps=3", "tensorboard=false")
    reference = whole(*overrides)
    count, finished = 0, False
    while not finished:
        count += 1
        cut = tmp_path / f"cut{count}"
        with monkeypatch.context() as patch:
            die_at(patch, os, name, count)
            try:
                train(recipe(*overrides), cut, console=screen.console)
                resume(cut, console=screen.console)
                finished = True
            except Killed:
                finished = False
        if not (cut / "recipe.toml").exists():
            with pytest.raises(RunError, match=r"holds no recipe\.toml"):
                resume(cut, console=screen.console)
            continue
        resume(cut, console=screen.console)
        assert_same_run(cut, reference)
        assert [path.name for path in cut.rglob("*.tmp")] == []
    assert count > {"replace": 15, "link": 6, "fsync": 20}[name]


def test_killed_again_and_again(interrupted, whole, screen, monkeypatch):
    overrides = ("checkpoint.every_steps=2",)
    cut = interrupted(Trainer, "add_gradients", 4, *overrides)
    for count in (2, 3, 3, 1, 4):
        with monkeypatch.context() as patch:
            die_at(patch, Trainer, "add_gradients", count)
            with pytest.raises(Killed):
                resume(cut, console=screen.console)
    resume(cut, console=screen.console)
    assert_same_run(cut, whole(*overrides))


def test_the_event_files_equal_those_of_an_uninterrupted_run(interrupted, whole, screen):
    cut = interrupted(Trainer, "add_gradients", 9, "checkpoint.every_steps=2")
    # What was recorded after the checkpoint is recorded again, not twice.
    assert [e["step"] for e in recorded(cut) if e["event"] == "step"] == [0, 2, 4, 6]
    resume(cut, console=screen.console)
    other = whole("checkpoint.every_steps=2")
    assert recorded(cut) == recorded(other)
    assert scalars(cut) == scalars(other)
    assert ("train_loss", 6) in scalars(cut)


def test_a_finished_run_answers_its_result(whole, screen):
    run = whole()
    before = (run / "metrics.jsonl").read_bytes()
    result = resume(run, console=screen.console)
    assert (run / "metrics.jsonl").read_bytes() == before
    assert result.best.test_accuracy == recorded(run)[-1]["best"]["test_accuracy"]


def test_a_finished_run_goes_on_for_more_epochs(recipe, whole, screen, tmp_path):
    train(recipe("epochs=2"), tmp_path / "short", console=screen.console)
    resume(tmp_path / "short", epochs=3, console=screen.console)
    assert_same_run_but_recipe(tmp_path / "short", whole())
    assert "epochs = 3" in (tmp_path / "short" / "recipe.toml").read_text()
    with pytest.raises(RunError, match="has done 3 epochs already"):
        resume(tmp_path / "short", epochs=2, console=screen.console)


def assert_same_run_but_recipe(a: Path, b: Path) -> None:
    """The best checkpoint may have been written while the recipe still said fewer epochs."""
    assert recorded(a) == recorded(b)
    one, two = (read(path / "checkpoints" / "last.pt") for path in (a, b))
    assert all(torch.equal(one["model"][name], two["model"][name]) for name in one["model"])


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(interrupted, whole, screen):
    overrides = ("checkpoint.every_steps=2",)
    cut = interrupted(Trainer, "add_gradients", 9, *overrides)
    last = cut / "checkpoints" / "last.pt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    resume(cut, console=screen.console)
    assert f"{last} is damaged: its SHA-256 does not match" in screen.text
    assert "going on from previous.pt: epoch 1, step 1 of 5" in screen.text
    assert_same_run(cut, whole(*overrides))


@pytest.mark.parametrize("damaged", [["last"], ["last", "previous"]])
def test_every_checkpoint_can_be_the_one_to_go_on_from(
    install, recipe, whole, screen, monkeypatch, damaged
):
    """After epochs of rising accuracy last, previous, and best are each the best of their time."""
    monkeypatch.setattr(position, "choose", _always_better)
    run = whole("epochs=3")
    reference = run.with_name("reference")
    shutil.copytree(run, reference)
    (run / "checkpoints" / "best.pt").unlink()
    shutil.copy(run / "checkpoints" / "previous.pt", run / "checkpoints" / "best.pt")
    (run / "weights.safetensors").unlink()
    for name in damaged:
        path = run / "checkpoints" / f"{name}.pt"
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[:-5])
    resume(run, console=screen.console)
    assert f"going on from {'previous' if damaged == ['last'] else 'best'}.pt" in screen.text
    assert_same_run(run, reference)


def _always_better(protocol, best, epoch, test, *others):
    return Best(epoch, protocol.metric, test, test)


def test_a_run_killed_before_its_first_checkpoint_can_be_given_more_epochs(interrupted, screen):
    cut = interrupted(Trainer, "add_gradients", 2, "epochs=1")
    assert resume(cut, epochs=2, console=screen.console).epochs == 2
    assert "epochs = 2" in (cut / "recipe.toml").read_text()


def test_a_checkpoint_of_another_recipe_is_named(interrupted, recipe, screen, tmp_path):
    cut = interrupted(Trainer, "add_gradients", 9, "checkpoint.every_steps=2")
    other = train(recipe("seed=3"), tmp_path / "other", console=screen.console).folder
    (other / "checkpoints" / "last.pt").replace(cut / "checkpoints" / "last.pt")
    resume(cut, console=screen.console)
    assert "last.pt is of another recipe: seed = 3 there, 2020 in recipe.toml" in screen.text


def test_a_changed_recipe_is_refused(whole, screen):
    run = whole()
    text = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(text.replace("batch_size = 4", "batch_size = 8"))
    with pytest.raises(CheckpointError, match=r"data\.batch_size = 4 there, 8 in recipe\.toml"):
        resume(run, console=screen.console)
    (run / "recipe.toml").write_text(text)
    resume(run, console=screen.console)


def test_a_folder_that_is_no_run_is_refused(screen, tmp_path):
    with pytest.raises(RunError, match="does not exist"):
        resume(tmp_path / "nothing", console=screen.console)
    with pytest.raises(RunError, match=r"holds no recipe\.toml"):
        resume(tmp_path, console=screen.console)


def test_a_full_disk_stops_the_run_and_it_can_go_on(
    interrupted, recipe, whole, screen, monkeypatch
):
    overrides = ("checkpoint.every_steps=2",)
    run = whole(*overrides).with_name("full")
    writes = 0
    write = checkpoint._HashingFile.write

    def fails_in_the_third_checkpoint(self, data):
        nonlocal writes
        if self.size == 0:
            writes += 1
        if writes == 3 and self.error is None and self.size > 500:
            self.error = OSError(28, "No space left on device")
        return write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint._HashingFile, "write", fails_in_the_third_checkpoint)
        with pytest.raises(CheckpointError, match=r"no room in .*full/checkpoints"):
            train(recipe(*overrides), run, console=screen.console)
    assert read(run / "checkpoints" / "last.pt")["global_step"] == 4
    resume(run, console=screen.console)
    assert_same_run(run, run.with_name("whole"))


def test_a_disk_too_small_for_the_record_stops_the_run_in_one_line(recipe, whole, screen, tmp_path):
    limit = len(catalog.dump(recipe())) + 20  # the recipe fits, the record of the first epoch not
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            train(recipe(), tmp_path / "cut", console=screen.console)
        except RunError as error:
            os.write(write_end, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write_end)
    text = os.read(read_end, 10000).decode()
    os.close(read_end)
    assert text == (
        "JsonLines cannot write: File too large; "
        "make room, then resume the run from its last checkpoint"
    )
    resume(tmp_path / "cut", console=screen.console)
    assert_same_run(tmp_path / "cut", whole())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["training", "evaluation"])
def test_a_signal_stops_after_the_step_and_the_run_goes_on(
    install, recipe, whole, screen, tmp_path, number, where
):
    passes = 0

    class Interrupted(TinyClassifier):
        def forward(self, inputs):
            nonlocal passes
            passes += self.training == (where == "training")
            if passes == 4:
                passes += 1
                os.kill(os.getpid(), number)
            return super().forward(inputs)

    install(Interrupted)
    before = signal.getsignal(number)
    leaves = KeyboardInterrupt if number == signal.SIGINT else SystemExit
    with pytest.raises(leaves):
        train(recipe(), tmp_path / "cut", console=screen.console)
    assert signal.getsignal(number) is before
    state = read(tmp_path / "cut" / "checkpoints" / "last.pt")
    # In the evaluation of epoch 1 (3 batches each) all its steps are done and stay done.
    assert (state["epoch"], state["step"]) == ((0, 4) if where == "training" else (1, 5))
    assert f"`spikeloom resume {tmp_path}/cut` goes on" in screen.text
    install()
    resume(tmp_path / "cut", console=screen.console)
    assert_same_run(tmp_path / "cut", whole())


def test_checkpoints_by_the_clock(interrupted, whole, screen):
    """every_minutes: so short that every step writes one."""
    cut = interrupted(Trainer, "add_gradients", 4, "every_minutes=1e-9")
    assert read(cut / "checkpoints" / "last.pt")["global_step"] == 3
    resume(cut, console=screen.console)
    assert math.isfinite(read(cut / "checkpoints" / "last.pt")["run_seconds"])
    assert_same_run(cut, whole("every_minutes=1e-9"))


def test_another_environment_is_mentioned(interrupted, screen):
    cut = interrupted(Trainer, "add_gradients", 9)
    path = cut / "environment.json"
    text = path.read_text()
    assert '"threads": 1' in text
    path.write_text(text.replace('"threads": 1', '"threads": 8'))
    resume(cut, console=screen.console)
    assert "threads was 8 and is 1; the last bits of the numbers may differ" in screen.text


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "cpu"])
def test_kill_9_at_random_instants(tmp_path, backend):
    """The real thing: plif/digits in processes that are killed without warning."""
    driver = Path(__file__).with_name("kill_driver.py")
    answer = subprocess.run(
        [sys.executable, str(driver), str(tmp_path), backend],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    kills = int(answer.stdout.split()[-1])
    assert kills >= 3, answer.stdout
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    assert read_events(tmp_path / "whole" / "metrics.jsonl")[-1]["event"] == "end"
