"""What goes wrong around a run ends it in one line, and the run goes on where it was."""

import multiprocessing
import os
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from spikeloom import files
from spikeloom.data import registry
from spikeloom.data.base import DataSet, DataSpec, Split
from spikeloom.errors import (
    CheckpointError,
    DataError,
    OutOfMemoryError,
    RunError,
    SpikeloomError,
)
from spikeloom.methods import catalog
from spikeloom.run import records
from spikeloom.run.checkpoint import read, write
from spikeloom.run.folder import RunFolder
from spikeloom.training import evaluate, resume, train

from .conftest import TinyClassifier, TinyData, assert_same_run


def in_a_child(action: Callable[[], object]) -> tuple[int, str]:
    """Exit status and text of `action` in a forked process; an error of ours ends it with 2."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def run() -> None:
        code = 0
        try:
            action()
        except SpikeloomError as error:
            # PyTorch tells of a dead reading process again at every signal, also while this is sent
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            sender.send(f"{type(error).__name__}: {error}")
            code = 2
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
        except BaseException as error:
            sender.send(f"{type(error).__name__}: {error}")
            code = 1
        os._exit(code)

    # not os.fork: a child has to forget what its parent shares with reading processes
    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    sender.close()
    try:
        text = receiver.recv()
    except EOFError:
        text = ""
    receiver.close()
    child.join()
    assert child.exitcode is not None
    return child.exitcode, text


# Signals


class Terminated(TinyClassifier):
    """Sends itself SIGTERM in the fourth training step, `times` times."""

    times = 1
    passes = 0

    def forward(self, inputs):
        self.passes += self.training
        if self.training and self.passes == 4:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGTERM)
        return super().forward(inputs)


def test_sigterm_saves_after_the_step_and_exits_with_0(install, recipe, screen, tmp_path):
    install(Terminated)
    code, text = in_a_child(lambda: train(recipe(), tmp_path / "cut", console=screen.console))
    assert (code, text) == (0, "")
    assert read(tmp_path / "cut" / "checkpoints" / "last.pt")["global_step"] == 4
    install()
    resume(tmp_path / "cut", console=screen.console)
    train(recipe(), tmp_path / "whole", console=screen.console)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_a_second_sigterm_does_not_wait_and_does_not_claim_that_all_is_saved(
    install, recipe, screen, tmp_path
):
    class Twice(Terminated):
        times = 2

    install(Twice)
    code, _ = in_a_child(lambda: train(recipe(), tmp_path / "cut", console=screen.console))
    assert code == 128 + signal.SIGTERM
    assert not (tmp_path / "cut" / "checkpoints" / "last.pt").exists()


# The folder


def test_a_folder_whose_creation_was_killed_can_be_trained_into(
    recipe, screen, tmp_path, monkeypatch
):
    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_recipe", die)
        with pytest.raises(Killed):
            train(recipe(), tmp_path / "run", console=screen.console)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "environment.json",
        "inputs.json",
        "lock",
    }
    assert train(recipe(), tmp_path / "run", console=screen.console).epochs == 3


def test_of_two_runs_that_begin_in_one_folder_at_once_one_is_refused(
    recipe, screen, tmp_path, monkeypatch
):
    other = catalog.dump(recipe("seed=7"))
    write = files.write
    faster = []

    def slow(path: Path, content: str, **how: bool) -> None:
        if path.name == "environment.json" and not faster:
            faster.append(in_a_child(lambda: RunFolder.create(tmp_path / "run", other, {})))
        write(path, content, **how)

    monkeypatch.setattr(files, "write", slow)
    train(recipe(), tmp_path / "run", console=screen.console)
    code, text = faster[0]
    assert code == 2 and "another process is training in" in text
    assert (tmp_path / "run" / "recipe.toml").read_text() == catalog.dump(recipe())


@pytest.mark.parametrize(
    ("name", "number"),
    [("mkdir", 30), ("fsync", 28), ("replace", 28), ("link", 30), ("truncate", 30)],
)
def test_what_the_file_system_refuses_is_one_line(
    recipe, screen, tmp_path, monkeypatch, name, number
):
    """At every use of a system call; a run that could begin goes on to the same end."""
    overrides = ("epochs=2", "checkpoint.every_steps=3", "tensorboard=false")
    train(recipe(*overrides), tmp_path / "whole", console=screen.console)
    original = getattr(os, name)
    count, met = 0, True
    while met:
        count += 1
        run, calls, met = tmp_path / f"run{count}", 0, False

        def refusing(*args, **kwargs):
            nonlocal calls, met
            calls += 1
            if calls == count:  # noqa: B023 - called within this turn only
                met = True
                raise OSError(number, os.strerror(number))
            return original(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(os, name, refusing)
            try:
                train(recipe(*overrides), run, console=screen.console)
            except (RunError, CheckpointError) as error:
                assert os.strerror(number) in str(error) and "\n" not in str(error)
                assert str(run) in str(error) or "JsonLines cannot write" in str(error)
        if (run / "recipe.toml").exists():
            resume(run, console=screen.console)
        else:
            train(recipe(*overrides), run, console=screen.console)
        assert_same_run(run, tmp_path / "whole")
    assert count > {"mkdir": 2, "fsync": 10, "replace": 8, "link": 4, "truncate": 0}[name]


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_a_run_folder_of_another_user_is_read_and_not_written(recipe, screen):
    def as_nobody(action):
        def changed():
            os.setgid(65534)
            os.setuid(65534)
            action()

        return in_a_child(changed)

    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        Path(name).chmod(0o755)
        run = Path(name) / "run"
        train(recipe(), run, console=screen.console)
        evaluate(run)
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        code, text = as_nobody(lambda: resume(run, epochs=9, console=screen.console))
        assert code == 2 and "Permission denied" in text and str(run) in text
        assert as_nobody(lambda: evaluate(run)) == (0, "")
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_run_on_a_read_only_disk_is_named(recipe, screen, tmp_path, monkeypatch):
    run = train(recipe("epochs=1"), tmp_path / "run", console=screen.console).folder

    real = os.open

    def refuse(path, flags, *args, **kwargs):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(30, "Read-only file system", str(path))
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RunError, match=r"cannot write .*run/lock: Read-only file system"):
        resume(run, epochs=2, console=screen.console)
    assert 0 <= evaluate(run).accuracy <= 1  # reading needs no writing


# What lies in the folder


def test_a_damaged_line_of_the_record_is_named_and_left_out(recipe, screen, tmp_path):
    run = train(recipe("epochs=1"), tmp_path / "run", console=screen.console).folder
    record = run / "metrics.jsonl"
    lines = record.read_bytes().splitlines(keepends=True)
    for damage in (b'{"event": "epoch"}', b"\x00\xff{", b"[1]"):
        record.write_bytes(b"".join([lines[0], damage, b"\n", *lines[1:]]))
        before = len(screen.text)
        resume(run, epochs=1, console=screen.console)
        assert "metrics.jsonl" in screen.text[before:]
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 2: not an event"):
        records.read_events(record)


@pytest.mark.parametrize("text", ["", "[]", '{"threads"', "\x00"])
def test_a_damaged_environment_is_mentioned(recipe, screen, tmp_path, text):
    run = train(recipe("epochs=1"), tmp_path / "run", console=screen.console).folder
    (run / "environment.json").write_text(text)
    resume(run, epochs=2, console=screen.console)
    assert "environment.json is damaged" in screen.text


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("sums"),
        lambda state: state.update(epoch="0"),
        lambda state: state.update(model=[]),
        lambda state: state["model"].update(extra=1),
        lambda state: state["model"].popitem(),
        lambda state: state["model"].update({"first.bias": torch.zeros(99)}),
        lambda state: state.update(optimizer={}),
        lambda state: state.update(best={"epoch": 0}),
        lambda state: state.update(recipe="method = "),
    ],
)
def test_a_checkpoint_with_a_right_check_sum_and_wrong_content_is_refused(
    recipe, screen, tmp_path, change
):
    run = train(recipe("epochs=1"), tmp_path / "run", console=screen.console).folder
    state = read(run / "checkpoints" / "last.pt")
    change(state)
    for name in ("last", "previous", "best"):
        write(run / "checkpoints" / f"{name}.pt", state)
    with pytest.raises(CheckpointError) as caught:
        resume(run, epochs=2, console=screen.console)
    assert "\n" not in str(caught.value) and "last.pt" in str(caught.value)


# Data and the processes that read it


class Reading(Split):
    """The tiny samples, not in memory; reading the fifth batch does `harm`."""

    in_memory = False

    def __init__(self, inner: Split, flag: Path, harm: Callable[[], object]) -> None:
        self.inner, self.flag, self.harm = inner, flag, harm
        self.labels = inner.labels

    def read(self, indices: Tensor) -> Tensor:
        if not self.flag.exists() and 7 in indices.tolist():
            self.harm()
        return self.inner.read(indices)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def damaged() -> None:
    raise DataError("sample 7 is damaged: fetch it again")


@pytest.mark.parametrize(
    ("workers", "harm", "says"),
    [
        (1, killed, r"a process that reads samples ahead ended .*data\.workers \(1 now\)"),
        (1, damaged, "sample 7 is damaged"),
        (0, damaged, "sample 7 is damaged"),
    ],
)
def test_a_dead_worker_or_a_damaged_sample_stops_the_run_and_it_goes_on(
    recipe, screen, tmp_path, monkeypatch, workers, harm, says
):
    class OnDisk(TinyData):
        def load(self, root: Path | None) -> DataSet:
            data = super().load(root)
            split = Reading(data.train, tmp_path / "mended", harm)
            spec = DataSpec("tiny", (1, 2, 3), ("a", "b", "c"))
            return DataSet(spec, split, data.test, mean=data.mean, std=data.std)

    monkeypatch.setattr(registry, "_registered", {})
    registry.register(OnDisk())
    overrides = (f"workers={workers}", "checkpoint.every_steps=1")
    # PyTorch tells of a dead worker again whenever a child of this process ends
    code, text = in_a_child(
        lambda: train(recipe(*overrides), tmp_path / "cut", console=screen.console)
    )
    assert code == 2 and re.match(f"DataError: {says}", text), text
    (tmp_path / "mended").touch()
    resume(tmp_path / "cut", console=screen.console)
    train(recipe(*overrides), tmp_path / "whole", console=screen.console)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


# Time and memory


def test_a_clock_that_jumps_changes_nothing(recipe, screen, tmp_path, monkeypatch):
    overrides = ("every_minutes=1000", "checkpoint.every_steps=2")
    train(recipe(*overrides), tmp_path / "whole", console=screen.console)
    now, jumps = time.time, iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: now() + (-1) ** next(jumps) * 10**7)
    train(recipe(*overrides, "epochs=2"), tmp_path / "jumped", console=screen.console)
    monkeypatch.setattr(time, "time", lambda: now() - 10**9)
    resume(tmp_path / "jumped", epochs=3, console=screen.console)
    state = read(tmp_path / "jumped" / "checkpoints" / "last.pt")
    assert 0 < state["run_seconds"] < 600
    assert next(jumps) > 5
    whole = read(tmp_path / "whole" / "checkpoints" / "last.pt")
    assert all(torch.equal(state["model"][n], v) for n, v in whole["model"].items())


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.50 GiB. GPU 0 has"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_names_what_to_lower(install, recipe, screen, tmp_path, error):
    class Hungry(TinyClassifier):
        def forward(self, inputs):
            raise error

    install(Hungry)
    with pytest.raises(OutOfMemoryError) as caught:
        train(recipe("eval_batch_size=11"), tmp_path / "run", console=screen.console)
    text = str(caught.value)
    assert "data.batch_size (4 now" in text and "data.eval_batch_size (11)" in text
    assert "network.T (2)" in text and 'training.precision (float32; "bfloat16"' in text
    assert "--dry-run" in text and "\n" not in text
    assert ("tried to allocate 3.50 GiB" in text) == isinstance(error, torch.OutOfMemoryError)


def test_another_runtime_error_keeps_its_own_name(install, recipe, screen, tmp_path):
    class Wrong(TinyClassifier):
        def forward(self, inputs):
            raise RuntimeError("shapes do not fit")

    install(Wrong)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(recipe(), tmp_path / "run", console=screen.console)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
def test_memory_that_really_runs_out(recipe, screen, tmp_path):
    def starved() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + (256 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        # more than other tests may have left to the allocator to be used again
        train(recipe("hidden=400000", "T=400"), tmp_path / "run", console=screen.console)

    code, text = in_a_child(starved)
    assert code == 2 and text.startswith("OutOfMemoryError: out of memory on cpu"), text
    assert "network.T (400)" in text
