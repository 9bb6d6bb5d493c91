"""`spikeloom.Run`: what a recipe's training has, for a loop of one's own.

It stands beside the trainer: the run folder, its records, its checkpoints, its health and its
report are the same code and the same files.
"""

import math
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from spikeloom import report
from spikeloom.analysis.health import idle_parameters
from spikeloom.components.protocols import BestTestEpoch, BestValidationEpoch
from spikeloom.config.schema import CheckpointConfig, LoggingConfig
from spikeloom.data.base import DataSet
from spikeloom.errors import ConfigError, NonFiniteError, RunError
from spikeloom.evaluation.measure import Measurement
from spikeloom.evaluation.metrics import Score, score_for
from spikeloom.loop import description, plain
from spikeloom.loop.evaluation import Answer, Evaluated, Loss, evaluate, on_device, scored
from spikeloom.nn.classifier import Output
from spikeloom.processes import distributed
from spikeloom.report.examination import write as keep_examination
from spikeloom.run.device import StopRequest
from spikeloom.run.folder import RunFolder
from spikeloom.seeding import seed_global, stream
from spikeloom.training.journal import Journal
from spikeloom.training.position import Best, Clock, Position, Stateful, TrainedParts
from spikeloom.training.saving import Saver
from spikeloom.training.start import create_run


class Run:
    """A run folder around a plain PyTorch loop: records, checkpoints, health, report.

        with sl.Run("runs/mine", net, optimizer, schedule=schedule) as run:
            for epoch in run.epochs(10):
                for images, labels in run.batches(loader):
                    output = net(images.expand(4, *images.shape))       # [T, B, classes]
                    loss = cross_entropy(output.mean(0), labels)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    run.log(loss, output, labels)
                schedule.step()
                run.evaluate(answer, test_loader)

    Killed and started again, the program goes on from the last checkpoint: after each epoch, and
    inside it as `every_steps` or `every_minutes` say. At `with` everything that was given stands
    where the run stood, and `epochs` and `batches` go on from there. Random numbers need not be
    stored: the generators of torch, numpy and Python are set before each batch is read and before
    it is given out, to a function of seed, epoch and step. So a run that was killed ends with the
    same bits as one that was not, where the machine computes the same and the program draws from
    these generators alone. Ctrl-C and SIGTERM save after the step and leave. `spikeloom report`,
    `compare` and `doctor` read the folder as that of any run.

    Attributes:
        epoch: The epoch that is going on, from 0.
        best: The best epoch so far, by the test accuracy, or by validation where `evaluate` is
            given one; None before the first evaluation.
    """

    def __init__(
        self,
        folder: Path | str,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        schedule: Stateful | None = None,
        scaler: "torch.amp.GradScaler | None" = None,
        keep: Mapping[str, Stateful | plain.Generators] | None = None,
        data: DataSet | None = None,
        title: str = "",
        seed: int = 0,
        settings: Mapping[str, bool | int | float | str] | None = None,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        log_every: int = 64,
        tensorboard: bool = False,
        write_report: bool = True,
        console: Console | None = None,
    ) -> None:
        """What is given here is saved, and put back.

        Args:
            folder: The run folder: made, or gone on with.
            network: All that is trained, in one module, on its device.
            optimizer: Of its parameters.
            schedule: A learning rate schedule of PyTorch, or whatever has its two methods.
            scaler: The GradScaler of a training in float16.
            keep: By name, what else has `state_dict` and `load_state_dict`; and generators of
                torch and numpy that your program draws from.
            data: The data set, if it is one of `data.load`: classes are named in the report, and
                its notes are told.
            title: What the report is called; the folder's name by default.
            seed: Of all random numbers.
            settings: What you want to see beside this run: hidden=256, T=4. They may not change
                in a run that has begun.
            every_steps: A checkpoint inside an epoch after so many steps.
            every_minutes: One inside an epoch after so many minutes.
            log_every: A mini-batch is recorded every so many steps.
            tensorboard: Write for TensorBoard too.
            write_report: Write report.html at the end.
            console: Where progress is shown; standard output by default.
        """
        often = {"every_steps": every_steps, "every_minutes": every_minutes, "log_every": log_every}
        for name, value in often.items():
            if value is not None and value <= 0:
                raise ConfigError(f"{name} = {value}: give a number above 0")
        self.folder = Path(folder)
        self.network = network
        self.optimizer = optimizer
        self.position = Position()
        self._figures = plain.Figures()
        objects = {"schedule": schedule, **(keep or {}), "run": self._figures}
        kept = {name: plain.Kept(name, it) for name, it in objects.items() if it is not None}
        scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
        self._parts = TrainedParts(network, optimizer, scaler, kept)
        self._data, self._seed = data, seed
        self._about = description.describe(
            title or self.folder.name, seed, network, optimizer, schedule, data, settings or {}
        )
        logging = LoggingConfig(every_steps=log_every, tensorboard=tensorboard)
        self._journal = Journal(console or Console(), logging)
        self._saver = Saver(
            RunFolder(self.folder),
            description.to_toml(self._about),
            CheckpointConfig(every_steps=every_steps, every_minutes=every_minutes),
            description.check(self._about),
            self._journal,
        )
        self._write_report = write_report
        self._epochs: int | None = None
        self._clock = Clock()
        self._score: Score | None = None
        self._sums: dict[str, Tensor] = {}
        self._results: dict[str, Evaluated] = {}
        self._samples: int | None = None
        self._look = True
        self._lr = 0.0

    @property
    def epoch(self) -> int:
        return self.position.epoch

    @property
    def best(self) -> Best | None:
        return self.position.best

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def __enter__(self) -> "Run":
        if distributed.world_size() > 1:
            raise RunError("sl.Run is for one process: recipes train on several (torchrun)")
        self._stack = ExitStack()
        with ExitStack() as stack:
            place = self._saver.run
            stack.enter_context(place.storage_errors())
            if not place.recipe.is_file():
                create_run(place.path, self._saver.text, self.device, self._data)
            stack.enter_context(place.locked())
            stack.callback(self._journal.close)
            restored = self._saver.restore(self._parts, self.device, self._data)
            if restored is not None:
                self.position, self._sums = restored
            self._journal.open(place)
            hook = self.optimizer.register_step_pre_hook(self._before_step)
            stack.callback(hook.remove)
            self._stop = stack.enter_context(StopRequest())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def epochs(self, number: int) -> Iterator[int]:
        """The epochs that are left of `number`, counted from 0; each is recorded and saved when the
        loop comes back for the next. A larger number than before goes on with the training.
        """
        if self._epochs is None and number < self.epoch:
            raise RunError(
                f"{self.folder} has done {self.epoch} epochs already: give {self.epoch} or more"
            )
        self._epochs = self._journal.epochs = number
        self._saver.keep_recipe(description.to_toml(self._about, number))
        while self.epoch < number and not self._figures.stopped:
            self._lr = self.optimizer.param_groups[0]["lr"]
            self.network.train()
            self._clock.start()
            self._set_generators(self.epoch, "epoch")
            self._look = True
            yield self.epoch
            self._finish_epoch(last=self.epoch + 1 == number)
        self._journal.end(self.position)
        self._journal.flush()
        if self._write_report:
            self._journal.message(f"report {report.write([self.folder])}")

    def batches(self, loader: Iterable[Any]) -> Iterator[Any]:
        """The batches of this epoch that are left: of a `data.Loader`, of a DataLoader, or of
        anything that gives the same batches for the same random numbers. Once an epoch. A resumed
        epoch reads what came before and leaves it out; a `data.Loader` need not read it.
        """
        split = getattr(loader, "split", None) or getattr(loader, "dataset", None)
        self._samples = _length(split)
        steps = _length(loader)
        begin = self.position.step
        self._set_generators(self.epoch, "order")
        _seed_loader(loader, stream(self._seed, self.epoch, "order"))
        if hasattr(loader, "epoch"):
            batches = loader.epoch(self.epoch, begin)  # type: ignore[attr-defined]
        else:
            batches = iter(loader)
            for step in range(begin):
                self._set_generators(self.epoch, step, "read")
                next(batches, None)
        for step in count(begin):
            self._set_generators(self.epoch, step, "read")
            batch = next(batches, None)
            if batch is None:
                return
            self._look = step + 1 == steps or (steps is None and step == begin)
            self._set_generators(self.epoch, step, "step")
            yield batch
            self.position.step += 1
            self.position.global_step += 1
            if steps is not None:
                self._journal.show(self.position, "train", step + 1, steps)
            self._between_steps(last=step + 1 == steps)

    def log(self, loss: Tensor, output: Tensor | Output, targets: Tensor, **figures: float) -> None:
        """Adds a mini-batch to the figures of the epoch.

        Args:
            loss: A scalar, the mean over the batch.
            output: Scores `[B, classes]`, or `[T, B, classes]`, of which the mean over time is
                meant; of a regression the values `[B, K]` or `[T, B, K]`.
            targets: Classes `[B]`, or real values `[B, K]`.
            figures: Numbers of your own by name; the last ones of an epoch are recorded.

        Raises:
            NonFiniteError: the loss is NaN or infinite.
            ConfigError: a figure is, or it is no number.
        """
        answer = scored(output)
        scores = answer.scores.detach()
        targets = on_device(targets, scores.device)
        loss = loss.detach()
        self._figures.take(figures)
        if self._score is None:
            self._score = score_for(scores, targets)
            if self._sums:
                self._saver.load_sums(self._score, self._sums)
            if not self.position.global_step:
                facts = description.start_fields(
                    self._about, self._data, self._samples, answer.votes
                )
                regression = targets.is_floating_point()
                self._journal.start(self.network, regression=regression, **facts)
        self._score.add(loss, scores, targets)
        if loss.device.type == "cpu":
            self._check(loss.item())
        lr = self.optimizer.param_groups[0]["lr"]
        self._journal.step(
            self.position,
            self.position.global_step,
            lr,
            (loss, scores, targets),
            lambda: self._check(loss.item()),
        )

    def evaluate(
        self,
        answer: Answer,
        batches: Iterable[Any],
        *,
        split: str = "test",
        loss: Loss | None = None,
    ) -> Measurement:
        """Accuracy, firing rates and the rest over `batches`, in evaluation mode; of the last call
        in an epoch.

        Args:
            answer: From inputs to scores, `[B, classes]` or `[T, B, classes]`.
            batches: The samples, each once.
            split: "test"; with "val" too the best epoch is chosen by it (accuracy-B).
            loss: From scores `[B, classes]` and targets to a scalar, if it is to be recorded.
        """
        if split not in ("test", "val"):
            raise ConfigError(f"split is {split!r}: give test or val")
        was_training = self.network.training
        self.network.eval()
        self._set_generators(self.epoch, split)
        classes = () if self._data is None else self._data.spec.classes
        try:
            seen = evaluate(self.network, answer, batches, loss, classes, examined=split == "test")
        finally:
            self.network.train(was_training)
        self._results[split] = seen
        return seen.measurement

    def stop(self) -> None:
        """Ends the training after this epoch."""
        self._figures.stopped = True

    def _set_generators(self, *names: int | str) -> None:
        seed = stream(self._seed, *names)
        seed_global(seed, self.device)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - what a user's transforms may draw from
        random.seed(seed)

    def _before_step(self, *_: object) -> None:
        """Called ahead of each optimizer step."""
        if self._look:
            self.position.idle = idle_parameters(self.network)
            self._look = False

    def _between_steps(self, *, last: bool) -> None:
        if not last and self._saver.due(self.position):
            self._save()  # at the end of an epoch one is written after the evaluation
        if number := self._stop.signal():
            self._save()
            self._journal.message(
                f"stopped in epoch {self.epoch} after step {self.position.step}; start the program "
                "again to go on from there"
            )
            self._stop.leave(number)

    def _finish_epoch(self, *, last: bool) -> None:
        position, score = self.position, self._score
        if score is None:
            raise RunError(
                f"nothing was logged in epoch {self.epoch}: call run.log(loss, output, targets) "
                "after each step"
            )
        self._check(score.loss)
        result, improved = self._results.get("test"), False
        measurements = {split: seen.measurement for split, seen in self._results.items()}
        test, val = measurements.get("test"), measurements.get("val")
        if test is not None:
            protocol = BestTestEpoch() if val is None else BestValidationEpoch()
            improved = position.judge(protocol, test, val)
        self._clock.stop(position)
        figures = self._figures.values
        self._journal.epoch(position, self._lr, score, self.network, val, test, figures)
        position.next_epoch(score.loss)
        self._score, self._sums, self._results = None, {}, {}
        self._save()
        if improved or (last and position.best is None):
            self._saver.keep_best(self._parts)
            if result is not None and result.examination is not None:
                keep_examination(self.folder, result.examination)

    def _save(self) -> None:
        self._clock.stop(self.position)
        sums = self._sums if self._score is None else self._score.state()
        self._saver.save(self.position, self._parts, sums)

    def _check(self, loss: float) -> None:
        if math.isfinite(loss):
            return
        raise NonFiniteError(
            f"the loss is {loss} in epoch {self.epoch}, step {self.position.step}: "
            f"{self._saver.good}; train again with a lower learning rate, or clip gradients"
        )


def _seed_loader(loader: object, seed: int) -> None:
    """Sets the generators that a DataLoader or its sampler was given: else a resumed epoch would
    have another order than the one that was cut."""
    inner = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    for holder in (loader, getattr(loader, "sampler", None), inner):
        generator = getattr(holder, "generator", None)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)


def _length(iterable: object) -> int | None:
    try:
        return len(iterable)  # type: ignore[arg-type]
    except TypeError:  # a generator, or a data set that only iterates
        return None
