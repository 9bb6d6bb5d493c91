"""The training loop: epoch, step, evaluate, save, log; from top to bottom.

It knows no method by name. What it promises is exactness: every random stream is a function of
(seed, epoch, step, rank, purpose), and a checkpoint holds everything else, so that a run which was
killed at any instant and resumed equals the uninterrupted one bit for bit on the same machine.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from spikeloom.analysis.constants import learned_constants
from spikeloom.config.schema import Recipe
from spikeloom.data.base import Batch
from spikeloom.data.for_recipe import load_data
from spikeloom.errors import CheckpointError, ConfigError, NonFiniteError, RunError
from spikeloom.evaluation.evaluation import Measurement, build, measure
from spikeloom.evaluation.loaders import make_loaders
from spikeloom.evaluation.metrics import Score, mini_batch
from spikeloom.evaluation.nonfinite import first_non_finite
from spikeloom.evaluation.protocol import Best, Protocol
from spikeloom.methods import catalog
from spikeloom.processes import distributed
from spikeloom.processes.synced import own_batches
from spikeloom.run.checkpoint import Checkpoints, State, recipe_difference
from spikeloom.run.device import (
    StopRequest,
    autocast,
    seed_global,
)
from spikeloom.run.folder import RunFolder, environment
from spikeloom.run.records import (
    ConsoleLines,
    JsonLines,
    Sink,
    Stream,
    TensorBoard,
)
from spikeloom.seeding import stream
from spikeloom.training import optim, snapshot
from spikeloom.training.parallel import Parallel
from spikeloom.training.watch import Watch


@dataclass(frozen=True)
class RunResult:
    """What a finished run reports: `best.test_accuracy` is its accuracy under `protocol`."""

    folder: Path
    protocol: str
    best: Best
    epochs: int
    seconds: float


class Trainer:
    """One run: the network, its optimizer, and the position in the training.

    `epoch` and `step` are the next optimizer step to do; `global_step` counts those done.
    """

    def __init__(self, recipe: Recipe, device: torch.device, console: Console) -> None:
        self.recipe = recipe
        self.device = device
        self.stop = StopRequest()
        self.console = ConsoleLines(console)
        self.rank = distributed.rank()
        self.main = distributed.is_main()
        data = distributed.one_by_machine_first(lambda: load_data(recipe))
        self.spec = data.spec
        self.protocol = Protocol(recipe.protocol)
        self.loaders = distributed.together(
            lambda: make_loaders(recipe, data, self.protocol, device)
        )
        self.steps = -(-len(self.loaders.train) // recipe.training.accumulate)
        # On a CPU reading loss and watch costs nothing. On a GPU it would wait for the step; they
        # are looked at now and then, and a bad step is found by going over the steps again. So it
        # is on several processes, which would have to agree on it in every step.
        self.watches_every_step = device.type == "cpu" and distributed.world_size() == 1
        self.events = Stream([])
        self.begin()

    def begin(self) -> None:
        """The state before the first step."""
        config = self.recipe.training
        self.seed("init")
        self.classifier = distributed.together(lambda: build(self.recipe, self.spec, self.device))
        self.network = Parallel(self.classifier, config, self.device)
        self.optimizer = optim.make_optimizer(
            self.recipe.optimizer, self.classifier.parameter_groups()
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "float16")
        self.epoch = self.step = self.global_step = 0
        self.score = Score(self.spec.class_count, self.device)
        self.watch = Watch(self.classifier, self.optimizer, self.scaler.is_enabled(), self.device)
        self.epoch_seconds = self.run_seconds = 0.0
        self.best: Best | None = None
        self.confusion: Tensor | None = None  # of the test samples, at the best epoch

    def fit(self, run: RunFolder) -> RunResult:
        """Trains to the last epoch from wherever the run folder stands."""
        self.run = run
        self.checkpoints = Checkpoints(run.checkpoints)
        with run.storage_errors(), distributed.entered_by_main(run.locked()):
            self.restore()
            try:
                with self.stop:
                    return self.train_to_end()
            except _BadSums:
                self.events.message(
                    f"something became non-finite before epoch {self.epoch}, step {self.step}; "
                    "going over the steps since the last checkpoint to find where"
                )
                self.events.close()
                self.watches_every_step = True
                self.begin()
                self.restore()
                with self.stop:
                    return self.train_to_end()
            finally:
                self.events.close()

    def adopt(self, run: RunFolder, weights: dict[str, Tensor]) -> None:
        """Makes `run` a run that stands before its first step with these weights."""
        self.run = run
        self.checkpoints = Checkpoints(run.checkpoints)
        with run.storage_errors(), run.locked():
            self.classifier.load_state_dict(weights)
            self.events = self.open_events()
            try:
                self.log_start()
                self.save()
                self.keep_best(self.checkpoints.last)
            finally:
                self.events.close()

    def train_to_end(self) -> RunResult:
        while self.epoch < self.recipe.training.epochs:
            self.train_epoch()
            self.finish_epoch()
        assert self.best is not None and self.confusion is not None  # the last epoch is evaluated
        self.events.emit(
            {
                "event": "end",
                "protocol": self.protocol.name,
                "best": self.best.to_dict(),
                "confusion": self.confusion.tolist(),
                "seconds": self.run_seconds,
            }
        )
        return RunResult(self.run.path, self.protocol.name, self.best, self.epoch, self.run_seconds)

    def train_epoch(self) -> None:
        """The optimizer steps of this epoch that are left."""
        self.set_learning_rate()
        self.classifier.train()
        self.start_clock()
        for batches in self.batches():
            if self.global_step <= self.recipe.schedule.warmup_steps:
                self.set_learning_rate()
            loss, scores = self.train_step(batches)
            self.step += 1
            self.global_step += 1
            self.log_step(loss, scores, batches[-1].targets)
            self.checkpoint_within_epoch()

    def set_learning_rate(self) -> None:
        """Gives the optimizer the rate of the step to come."""
        self.lr = optim.set_learning_rate(
            self.optimizer, self.recipe.schedule, self.epoch, self.global_step
        )

    def batches(self) -> Iterator[list[Batch]]:
        """For each optimizer step left in this epoch, the batches whose gradients it adds up."""
        count = self.recipe.training.accumulate
        batches = self.loaders.train.epoch(self.epoch, self.step * count)
        groups = iter(lambda: list(islice(batches, count)), [])
        return distributed.lockstep(groups, self.stop.signal, self.pause)

    def train_step(self, batches: list[Batch]) -> tuple[Tensor, Tensor]:
        """One optimizer step; returns loss and scores of its last batch."""
        samples = sum(batch.total for batch in batches)
        results = []
        for batch in batches:
            # Batches of different size count by their samples, as in one large batch; gradients
            # of processes are averaged.
            share = len(batch.targets) * distributed.world_size() / samples
            with self.network.accumulating(last=batch is batches[-1]):
                results.append(self.add_gradients(batch, share))
        self.scaler.unscale_(self.optimizer)
        self.classifier.before_step()
        self.watch.before_step()
        self.stop_if_bad(batches[-1])
        if (norm := self.recipe.training.clip_norm) is not None:
            nn.utils.clip_grad_norm_(self.classifier.parameters(), norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.classifier.after_step()
        self.watch.after_step()
        self.stop_if_bad(batches[-1])
        if not self.recipe.training.carry_gradients:
            self.optimizer.zero_grad(set_to_none=True)
        return results[-1]

    def add_gradients(self, batch: Batch, share: float) -> tuple[Tensor, Tensor]:
        """Forward and backward; `share` is the part of this batch in the step's loss."""
        self.seed(self.epoch, batch.step, self.rank, "forward")
        with autocast(self.recipe.training.precision, self.device):
            loss, scores = self.network(batch.inputs, batch.targets)
        if self.watches_every_step and distributed.any_of(not math.isfinite(loss.item())):
            raise self.find_non_finite(loss, batch)
        self.scaler.scale(loss if share == 1 else loss * share).backward()
        self.score.add(loss, scores, batch.targets)
        return loss.detach(), scores.detach()

    def seed(self, *names: int | str) -> None:
        """Puts the global generators at the start of the stream called `names`."""
        seed_global(stream(self.recipe.seed, *names), self.device)

    def finish_epoch(self) -> None:
        """Evaluates, logs, saves, and moves on to the next epoch."""
        self.check_sums()
        config = self.recipe
        last = self.epoch + 1 == config.training.epochs
        test = val = None
        best = self.best
        if last or (self.epoch + 1) % config.training.evaluate_every == 0:
            val, test = self.evaluate("val"), self.evaluate("test")
            assert test is not None
            best = self.protocol.choose(
                best, self.epoch, test.accuracy, None if val is None else val.accuracy
            )
        improved = best is not self.best
        if improved and test is not None:
            self.best, self.confusion = best, test.confusion
        self.stop_clock()
        self.score.reduce()
        self.log_epoch(val, test)
        self.epoch, self.step = self.epoch + 1, 0
        self.score = Score(self.spec.class_count, self.device)
        self.epoch_seconds = 0.0
        if improved or last or self.epoch % config.checkpoint.every_epochs == 0:
            self.save()
        if improved:
            distributed.from_main(lambda: self.keep_best(self.checkpoints.last))

    def evaluate(self, split: str) -> Measurement | None:
        """The trained network on the test or validation samples; None where there are none."""
        loader = self.loaders.test if split == "test" else self.loaders.val
        if loader is None:
            return None
        self.seed(self.epoch, self.rank, split)
        self.network.share_buffers()

        return measure(
            self.classifier,
            loader,
            epoch=self.epoch,
            classes=self.spec.class_count,
            device=self.device,
            precision=self.recipe.training.precision,
            with_rates=split == "test",
            paced=lambda batches: distributed.lockstep(batches, self.stop.signal, self.pause),
            after_batch=lambda done: self.show_progress(split, done, len(loader)),
        )

    def checkpoint_within_epoch(self) -> None:
        config = self.recipe.checkpoint
        due = config.every_steps is not None and self.global_step % config.every_steps == 0
        if config.every_minutes is not None:
            waited = time.monotonic() - self.saved_at
            due |= distributed.any_of(waited >= 60 * config.every_minutes)
        # At the end of an epoch one is written after the evaluation.
        if due and self.step < self.steps:
            self.stop_clock()
            self.save()

    def pause(self, number: int) -> None:
        """Saves and leaves because of signal `number`."""
        self.stop_clock()
        self.save()
        self.events.message(
            f"stopped in epoch {self.epoch} after step {self.step} of {self.steps}; "
            f"`spikeloom resume {self.run.path}` goes on from there"
        )
        self.stop.leave(number)

    def save(self) -> None:
        """Writes a checkpoint of this instant."""
        self.check_sums()
        sums = self.score.state()

        def write() -> None:
            with self.run.storage_errors():
                self.events.flush()
                self.checkpoints.save(snapshot.take(self, sums))

        distributed.from_main(write)
        self.saved_at = time.monotonic()

    def keep_best(self, path: Path) -> None:
        """The checkpoint at `path` is of the best epoch and of this instant: it gets that name too,
        and its weights are written as plain weights."""
        self.checkpoints.keep_best(path)
        self.run.write_weights(self.classifier.state_dict())

    def restore(self) -> None:
        """Continues from the newest usable checkpoint, or starts; opens the event files there."""
        watching = Stream([self.console] if self.main else [])
        found = distributed.from_main(lambda: self.newest(watching))
        if found is None:
            distributed.together(self.classifier.start)
        else:
            path, state = found
            snapshot.put_back(self, path, state)
            watching.message(
                f"going on from {path.name}: epoch {self.epoch}, step {self.step} of {self.steps}"
            )
            for line in self.run.differences(environment(self.device)) if self.main else ():
                watching.message(f"{line}; the last bits of the numbers may differ")
            if self.step == 0 and self.best and self.best.epoch == self.epoch - 1:
                # it may have been killed between the checkpoint and this
                distributed.from_main(lambda: self.keep_best(path))
        self.saved_at = time.monotonic()
        self.events = distributed.together(self.open_events)
        if found is None:
            self.log_start()

    def newest(self, watching: Stream) -> tuple[Path, State] | None:
        """The checkpoint to go on from, with metrics.jsonl cut back to where it was written."""
        with self.run.storage_errors():
            found = self.checkpoints.newest(self.check_recipe, watching.message)
            self.check_length(None if found is None else found[1])
            self.run.cut_metrics(0 if found is None else found[1]["metrics_bytes"])
        return found

    def check_length(self, state: State | None) -> None:
        """Stores another number of epochs than before, if the run has not gone beyond it."""
        epochs = self.recipe.training.epochs
        done = 0 if state is None else state["epoch"]
        evaluated = state is not None and state["best"] is not None
        if epochs < done or (epochs == done and not evaluated):
            raise RunError(
                f"{self.run.path} has done {done} epochs already: "
                f"give more than training.epochs = {epochs}"
            )
        text = catalog.dump(self.recipe)
        if self.run.recipe.read_text() != text:
            self.run.write_recipe(text)

    def check_recipe(self, path: Path, state: State) -> None:
        try:
            theirs = catalog.dump(catalog.parse(state["recipe"], str(path)))
        except ConfigError as error:
            raise CheckpointError(f"the recipe in {path} cannot be read: {error}") from error
        difference = recipe_difference(theirs, catalog.dump(self.recipe))
        if difference is not None:
            raise CheckpointError(f"{path} is of another recipe: {difference}")

    def open_events(self) -> Stream:
        """The sinks, with TensorBoard brought to where metrics.jsonl stands."""
        if not self.main:
            return Stream([])
        sinks: list[Sink] = [JsonLines(self.run.metrics), self.console]
        if self.recipe.logging.tensorboard:
            board = TensorBoard(self.run.tensorboard)
            board.replay(self.run.metrics, Stream([self.console]).message)
            sinks.append(board)
        return Stream(sinks)

    def log_start(self) -> None:
        val = self.loaders.val
        self.events.emit(
            {
                "event": "start",
                "method": self.recipe.method,
                "recipe": self.recipe.title,
                "data": self.spec.name,
                "protocol": self.protocol.name,
                "parameters": sum(p.numel() for p in self.classifier.parameters()),
                "train_samples": len(self.loaders.train.split),
                "val_samples": 0 if val is None else len(val.split),
                "test_samples": len(self.loaders.test.split),
                "steps_per_epoch": self.steps,
                "processes": distributed.world_size(),
                "step_samples": self.recipe.data.batch_size
                * self.recipe.training.accumulate
                * distributed.world_size(),
            }
        )

    def log_step(self, loss: Tensor, scores: Tensor, labels: Tensor) -> None:
        """Every so many steps the current mini-batch; the counter starts at 0, as published."""
        self.show_progress("train", self.step, self.steps)
        number = self.global_step - 1
        if number % self.recipe.logging.every_steps == 0:
            self.check_sums()
            loss_now, accuracy_now = mini_batch(loss, scores, labels)
            self.events.emit(
                {
                    "event": "step",
                    "epoch": self.epoch,
                    "step": number,
                    "loss": loss_now,
                    "accuracy": accuracy_now,
                    "lr": self.lr,
                }
            )

    def log_epoch(self, val: Measurement | None, test: Measurement | None) -> None:
        self.check_sums()
        self.events.emit(
            {
                "event": "epoch",
                "epoch": self.epoch,
                "step": self.global_step,
                "lr": self.lr,
                "train_loss": self.score.loss,
                "train_accuracy": self.score.accuracy,
                "seconds": self.epoch_seconds,
                "constants": learned_constants(self.classifier),
                "scalars": self.classifier.scalars(),
                "test": None if test is None else test.to_dict(),
                "val": None if val is None else val.to_dict(),
                "best": None if self.best is None else self.best.to_dict(),
            }
        )

    def show_progress(self, phase: str, done: int, steps: int) -> None:
        self.events.progress(
            epoch=self.epoch,
            epochs=self.recipe.training.epochs,
            phase=phase,
            step=done,
            steps=steps,
        )

    def start_clock(self) -> None:
        self.clock = time.monotonic()

    def stop_clock(self) -> None:
        """Adds the time since the clock was started or last stopped."""
        now = time.monotonic()
        self.epoch_seconds += now - self.clock
        self.run_seconds += now - self.clock
        self.clock = now

    def check_sums(self) -> None:
        """Notices what became non-finite since the last look, where not every step is watched."""
        if distributed.any_of(not math.isfinite(self.score.loss_sum.item()) or self.watch.bad()):
            raise _BadSums

    def stop_if_bad(self, batch: Batch) -> None:
        """Raises NonFiniteError for what the watch saw, where every step is watched."""
        if not self.watches_every_step or not distributed.any_of(self.watch.bad()):
            return
        bad = self.watch.names()
        self.seed(self.epoch, batch.step, self.rank, "forward")
        with autocast(self.recipe.training.precision, self.device), own_batches(self.classifier):
            where = self.watch.origin(bad, batch)
        what = f"{bad[0]} became non-finite" if bad else "another process is not finite"
        raise distributed.common(self.non_finite(what, where), bool(bad))

    def find_non_finite(self, loss: Tensor, batch: Batch) -> NonFiniteError:
        """The error for a loss that is not finite, found before the step was taken."""
        self.seed(self.epoch, batch.step, self.rank, "forward")
        with autocast(self.recipe.training.precision, self.device), own_batches(self.classifier):
            where = first_non_finite(self.classifier, batch.inputs)
        own = not math.isfinite(loss.item())
        return distributed.common(self.non_finite(f"the loss is {loss.item()}", where), own)

    def non_finite(self, what: str, where: str) -> NonFiniteError:
        last = self.checkpoints.last
        good = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint yet"
        return NonFiniteError(
            f"{what} in epoch {self.epoch}, step {self.step} (optimizer step {self.global_step}): "
            f"it began in {where}; {good}; "
            "train again with a lower optimizer.lr, or with training.clip_norm"
        )


class _BadSums(Exception):
    """The sums of the epoch are not finite, and the step that did it is not known."""
