"""What a training will take, from a few real steps: memory, time, and room on the disk.

Nothing is kept and no run folder is made. Steps are those of the training, on its own batches; the
first ones, which compile kernels and choose algorithms, are not timed.

time of an epoch = steps * median step + evaluation batches * median evaluation batch
                   (the latter every `training.evaluate_every` epochs)
"""

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import IO, Any, TypeVar, cast

import torch
from rich.console import Console

from spikeloom.config.schema import Recipe
from spikeloom.data.base import Batch
from spikeloom.data.loader import Loader
from spikeloom.evaluation.measure import measure
from spikeloom.run.device import choose_device, surroundings
from spikeloom.run.failures import explained
from spikeloom.run.folder import RunFolder
from spikeloom.training.saving import Saver
from spikeloom.training.trainer import Trainer

UNTIMED = 2
"""Steps, and evaluation batches where there are more, before those whose time counts."""

LONGEST = 20
"""Steps, and evaluation batches, at most; fewer where `SECONDS` are over."""

SECONDS = 5.0

T = TypeVar("T")
_STATUS = Path("/proc/self/status")
_MACHINE = Path("/proc/meminfo")
_FORGET_PEAK = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Estimate:
    """What `dry_run` found. Times in seconds, sizes in bytes.

    `peak_memory`: the most that the process held in a step or an evaluation batch, all it had
    loaded included; on a GPU the most that PyTorch reserved there. None where the system does not
    tell. `memory`: what there is. `evaluation_seconds`: one pass over test and validation samples.
    `disk`: checkpoints and weights at their largest, while one is being written.
    """

    parameters: int
    device: str
    steps_per_epoch: int
    epochs: int
    step_seconds: float
    evaluation_seconds: float
    epoch_seconds: float
    seconds: float
    peak_memory: int | None
    memory: int | None
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
        trainer.saver = Saver(recipe, "", RunFolder(Path("no run folder")))  # none, on a NaN
        trainer.classifier.start()
        _forget_peak(device)
        step = _time_steps(trainer)
        passes = [_time_evaluation(trainer, loader) for loader in trainer.loaders[1:] if loader]
        evaluation = sum(passes)
        epochs, every = recipe.training.epochs, recipe.training.evaluate_every
        training = trainer.steps * step
        evaluations = -(-epochs // every)
        checkpoint = _stored(
            {"model": trainer.classifier.state_dict(), "optimizer": trainer.optimizer.state_dict()}
        )
        weights = _stored(trainer.classifier.state_dict())
        return Estimate(
            parameters=sum(p.numel() for p in trainer.classifier.parameters()),
            device=str(device),
            steps_per_epoch=trainer.steps,
            epochs=epochs,
            step_seconds=step,
            evaluation_seconds=evaluation,
            epoch_seconds=training + evaluation / every,
            seconds=epochs * training + evaluations * evaluation,
            peak_memory=_peak(device),
            memory=_memory(device),
            checkpoint=checkpoint,
            # last, previous, best, and one that is being written; weights and their replacement
            disk=4 * checkpoint + 2 * weights,
        )


def _time_steps(trainer: Trainer) -> float:
    """Median seconds of an optimizer step, with the reading of its batches."""
    trainer.classifier.train()

    def steps() -> Iterator[list[Batch]]:
        # A small data set may not have enough for one epoch.
        for epoch in range(LONGEST):
            trainer.position.epoch = epoch
            trainer.set_learning_rate()
            yield from trainer.batches()

    return _median_seconds(steps(), trainer.train_step, trainer.device)


def _time_evaluation(trainer: Trainer, loader: Loader) -> float:
    """Seconds of a pass over all batches of `loader`, from some of them."""
    seconds: list[float] = []

    def some(batches: Iterator[Batch]) -> Iterator[Batch]:
        began = now = time.monotonic()
        for batch in islice(batches, LONGEST):
            yield batch
            _wait(trainer.device)
            before, now = now, time.monotonic()
            seconds.append(now - before)
            if now - began > SECONDS:
                return

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


def _median_seconds(things: Iterator[T], use: Callable[[T], object], device: torch.device) -> float:
    """Of getting and using one, after the first ones."""
    seconds: list[float] = []
    began = now = time.monotonic()
    for thing in islice(things, LONGEST):
        use(thing)
        _wait(device)
        before, now = now, time.monotonic()
        seconds.append(now - before)
        if len(seconds) > UNTIMED and now - began > SECONDS:
            break
    return median(seconds[UNTIMED:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Counter:
    """A file that keeps nothing."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Part of the file protocol of `torch.save`."""


@contextmanager
def _bounded() -> Iterator[None]:
    """Lets memory run out as an error, where Linux would promise more than there is and then end
    this process, or another one."""
    free = available()
    if free is None:
        yield
        return
    held = resource.getrlimit(resource.RLIMIT_DATA)
    most = _status("VmData") + free
    resource.setrlimit(resource.RLIMIT_DATA, (_smaller(most, held[0]), held[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, held)


def available() -> int | None:
    """Bytes that this process may still take, on Linux; None elsewhere."""
    if not _MACHINE.exists() or not _STATUS.exists():
        return None
    return _field(_MACHINE, "MemAvailable")


def _smaller(limit: int, other: int) -> int:
    return limit if other == resource.RLIM_INFINITY else min(limit, other)


def _status(name: str) -> int:
    return _field(_STATUS, name)


def _field(path: Path, name: str) -> int:
    """A figure in kB of a file of /proc, in bytes."""
    lines = path.read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def _stored(state: dict[str, Any]) -> int:
    """Bytes of what `torch.save` writes."""
    counter = _Counter()
    torch.save(state, cast(IO[bytes], counter))
    return counter.size


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _FORGET_PEAK.exists():
        _FORGET_PEAK.write_text("5")  # the peak begins anew at what is held now


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return _status("VmHWM") if _STATUS.exists() else None


def _memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return _field(_MACHINE, "MemTotal") if _MACHINE.exists() else None
