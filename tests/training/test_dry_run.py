"""The estimate before a training: made of real steps, leaving nothing behind."""

import ctypes
import sys
import time

import pytest
import torch

from spikeloom.errors import ConfigError, NonFiniteError, OutOfMemoryError
from spikeloom.training import estimate as module
from spikeloom.training import train
from spikeloom.training.estimate import dry_run

from .conftest import TinyClassifier

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="figures of memory are Linux's")


def test_it_makes_no_folder_and_knows_the_sizes(recipe, screen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    found = dry_run(recipe())
    assert set(tmp_path.rglob("*")) == before
    run = train(recipe(), tmp_path / "run", console=screen.console).folder
    real = (run / "checkpoints" / "last.pt").stat().st_size
    # weights and both moments of Adam, float32; the file has names and the recipe's text besides
    assert 12 * found.parameters <= found.checkpoint < real
    assert (found.steps_per_epoch, found.epochs, found.device) == (5, 3, "cpu")
    assert found.disk > 4 * found.checkpoint


def test_times_are_those_of_steps_and_evaluations(install, recipe, monkeypatch):
    class Slow(TinyClassifier):
        passes = 0

        def forward(self, inputs):
            self.passes += 1
            # the first pass compiles: it does not count
            time.sleep(0.2 if self.passes == 1 else 0.02 if self.training else 0.01)
            return super().forward(inputs)

    install(Slow)
    found = dry_run(recipe("evaluate_every=2", "epochs=5", "batch_size=2"))
    assert 0.02 <= found.step_seconds < 0.1
    assert found.evaluation_seconds >= 6 * 0.01  # 11 samples
    assert found.epoch_seconds == pytest.approx(
        11 * found.step_seconds + found.evaluation_seconds / 2
    )
    # epochs 2, 4, and the last are evaluated
    assert found.seconds == pytest.approx(
        5 * 11 * found.step_seconds + 3 * found.evaluation_seconds
    )


def test_it_stops_after_a_few_steps_or_seconds(install, recipe, monkeypatch):
    passes = 0

    class Counted(TinyClassifier):
        def forward(self, inputs):
            nonlocal passes
            passes += self.training
            return super().forward(inputs)

    install(Counted)
    dry_run(recipe("epochs=1000"))
    assert passes == module.LONGEST
    passes = 0
    monkeypatch.setattr(module, "SECONDS", 0.0)
    dry_run(recipe())
    assert passes == module.UNTIMED + 1


@LINUX
def test_the_peak_is_that_of_the_steps(install, recipe):
    class Hungry(TinyClassifier):
        def forward(self, inputs):
            if self.training:
                torch.ones(64 << 20, dtype=torch.uint8).sum()
            return super().forward(inputs)

    # what the allocator keeps from other tests would be used again, and no peak would show
    ctypes.CDLL(None).malloc_trim(0)
    small = dry_run(recipe()).peak_memory
    install(Hungry)
    large = dry_run(recipe()).peak_memory
    assert large - small > 32 << 20


@LINUX
def test_memory_runs_out_as_an_error_and_the_limit_is_put_back(install, recipe, monkeypatch):
    import resource

    class Hungry(TinyClassifier):
        def forward(self, inputs):
            # more than other tests may have left to be used again
            torch.empty(8 << 30, dtype=torch.uint8)
            return super().forward(inputs)

    install(Hungry)
    monkeypatch.setattr(module, "available", lambda: 256 << 20)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(OutOfMemoryError, match=r"lower data\.batch_size \(4 now"):
        dry_run(recipe())
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_loss_that_breaks_is_told(install, recipe):
    class Broken(TinyClassifier):
        def loss(self, output, targets):
            return super().loss(output, targets) * float("nan")

    install(Broken)
    with pytest.raises(NonFiniteError, match=r"step 0 .*no checkpoint yet"):
        dry_run(recipe())


def test_the_command_prints_it(monkeypatch, tmp_path, capsys):
    from spikeloom.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "LONGEST", 4)
    size = ("T=1", "channels=2", "hidden=8", "batch_size=359", "threads=1", "backend=eager")
    with pytest.raises(SystemExit) as left:
        main(["train", "plif/digits", *size, "--dry-run"])
    assert left.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:17].rstrip() for line in lines] == [
        "parameters",
        "device",
        "peak memory",
        "time per epoch",
        "time in all",
        "checkpoint",
        "disk space",
    ]
    assert ": 4 steps of " in lines[3] and lines[4].endswith("for 20 epochs")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_recipe_is_told_as_always(recipe):
    with pytest.raises(ConfigError, match="PyTorch sees"):
        dry_run(recipe("device=cuda:99"))
