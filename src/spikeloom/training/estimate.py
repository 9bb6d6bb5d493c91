"""What a training will take, from a few real steps: memory, time, and room on the disk.

Nothing is kept and no run folder is made. Steps are those of the training, on its own batches; the
first ones, which compile kernels and choose algorithms, are not timed.

time of an epoch = steps * median step + evaluation batches * median evaluation batch
                   (the latter every `training.evaluate_every` epochs)
"""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch
from rich.console import Console

from spikeloom.config.schema import Recipe
from spikeloom.data.base import Batch
from spikeloom.data.loader import Loader
from spikeloom.evaluation.measure import measure
from spikeloom.run.device import choose_device, peak_memory_mb, surroundings
from spikeloom.run.failures import explained
from spikeloom.training.trainer import Trainer

UNTIMED = 2
"""Steps, and evaluation batches where there are more, before those whose time counts."""

LONGEST = 20
"""Steps, and evaluation batches, at most; fewer where `SECONDS` are over."""

SECONDS = 5.0

T = TypeVar("T")


@dataclass(frozen=True)
class Estimate:
    """What `dry_run` found. Times in seconds, sizes in bytes.

    `peak_memory`: the most that the process held meanwhile, all it had loaded included; on a GPU
    the most that PyTorch used there. `memory`: what there is. `evaluation_seconds`: one pass over
    test and validation samples. `disk`: checkpoints and weights at their largest, while one is
    being written.
    """

    parameters: int
    device: str
    steps_per_epoch: int
    epochs: int
    step_seconds: float
    evaluation_seconds: float
    epoch_seconds: float
    seconds: float
    peak_memory: int
    memory: int
    checkpoint: int
    disk: int


def dry_run(recipe: Recipe) -> Estimate:
    """Trains `recipe` for a few steps on this process and estimates the whole training.

    Raises:
        ConfigError, DataError: the recipe or its data cannot be used.
        OutOfMemoryError: the memory does not hold a step; the text names what to lower.
        NonFiniteError: the loss became NaN or infinite.
    """
    device = choose_device(recipe.training.device)
    with surroundings(recipe.training, device), explained(recipe, device), _bounded():
        trainer = Trainer(recipe, device, Console(quiet=True))
        trainer.enter()
        trainer.classifier.start()
        _forget_peak(device)
        step = _time_steps(trainer)
        passes = [_time_evaluation(trainer, loader) for loader in trainer.loaders[1:] if loader]
        weights = _bytes(trainer.classifier.state_dict())
        checkpoint = weights + _bytes(trainer.optimizer.state_dict())
        epochs, every = recipe.training.epochs, recipe.training.evaluate_every
        training, evaluation = trainer.steps * step, sum(passes)
        return Estimate(
            parameters=sum(p.numel() for p in trainer.classifier.parameters()),
            device=str(device),
            steps_per_epoch=trainer.steps,
            epochs=epochs,
            step_seconds=step,
            evaluation_seconds=evaluation,
            epoch_seconds=training + evaluation / every,
            seconds=epochs * training + -(-epochs // every) * evaluation,
            peak_memory=round(1e6 * peak_memory_mb()),
            memory=_memory(device),
            checkpoint=checkpoint,
            # last, previous, best, and one that is being written; weights and their replacement
            disk=4 * checkpoint + 2 * weights,
        )


def _time_steps(trainer: Trainer) -> float:
    """Median seconds of an optimizer step, with the reading of its batches."""

    def steps() -> Iterator[object]:
        # A small data set may not have enough for one epoch.
        for epoch in range(LONGEST):
            trainer.position.epoch = epoch
            trainer.set_learning_rate()
            for batches in trainer.batches():
                yield trainer.train_step(batches)

    trainer.classifier.train()
    seconds: list[float] = []
    for _ in _timed(steps(), trainer.device, seconds):
        pass
    return median(seconds[UNTIMED:])


def _time_evaluation(trainer: Trainer, loader: Loader) -> float:
    """Seconds of a pass over all batches of `loader`, from some of them."""
    seconds: list[float] = []

    def some(batches: Iterator[Batch]) -> Iterator[Batch]:
        return _timed(batches, trainer.device, seconds)

    measure(
        trainer.classifier,
        loader,
        spec=trainer.spec,
        device=trainer.device,
        precision=trainer.recipe.training.precision,
        with_rates=True,
        paced=some,
    )
    return len(loader) * median(seconds[UNTIMED:] or seconds[-1:])


def _timed(items: Iterator[T], device: torch.device, seconds: list[float]) -> Iterator[T]:
    """Some of `items`; how long getting and using each took goes into `seconds`."""
    began = now = time.monotonic()
    for item in islice(items, LONGEST):
        yield item
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        before, now = now, time.monotonic()
        seconds.append(now - before)
        if len(seconds) > UNTIMED and now - began > SECONDS:
            return


def _bytes(state: object) -> int:
    """Of all tensors in `state`."""
    if isinstance(state, torch.Tensor):
        return state.nbytes
    if isinstance(state, dict):
        state = list(state.values())
    return sum(map(_bytes, state)) if isinstance(state, list | tuple) else 0


def _forget_peak(device: torch.device) -> None:
    """The peak begins anew at what is held now, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):  # Linux alone has it, and some containers may only read /proc
            Path("/proc/self/clear_refs").write_text("5")


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def _bounded() -> Iterator[None]:
    """Lets memory run out as an error, where Linux would promise more than there is and then end
    this process, or another one."""
    free = available()
    if free is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = _kilobytes("/proc/self/status", "VmData") + free
    limit = most if soft == resource.RLIM_INFINITY else min(most, soft)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def available() -> int | None:
    """Bytes that this process may still take, on Linux; None elsewhere."""
    there = Path("/proc/meminfo").exists()
    return _kilobytes("/proc/meminfo", "MemAvailable") if there else None


def _kilobytes(file: str, name: str) -> int:
    """A figure in kB of a file of /proc, in bytes."""
    lines = Path(file).read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":"))
