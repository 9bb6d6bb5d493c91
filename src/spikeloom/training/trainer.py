"""The training loop: epoch, step, evaluate, save, log; from top to bottom.

It knows no method by name. What it promises is exactness: every random stream is a function of
(seed, epoch, step, rank, purpose), and a checkpoint holds everything else, so that a run which was
killed at any instant and resumed equals the uninterrupted one bit for bit on the same machine.
"""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from spikeloom.analysis.health import idle_parameters
from spikeloom.components import optimizers
from spikeloom.components.callbacks import Callback
from spikeloom.config.schema import Recipe
from spikeloom.data.base import Batch
from spikeloom.data.for_recipe import load_data, make_loaders
from spikeloom.errors import NonFiniteError
from spikeloom.evaluation.measure import Measurement, measure
from spikeloom.evaluation.metrics import score_of
from spikeloom.evaluation.nonfinite import Watch, first_non_finite
from spikeloom.methods import catalog
from spikeloom.processes import distributed
from spikeloom.processes.synced import own_batches
from spikeloom.run.device import StopRequest, autocast
from spikeloom.run.folder import RunFolder
from spikeloom.seeding import seed_global, stream
from spikeloom.training.journal import Journal, start_fields
from spikeloom.training.parallel import Parallel
from spikeloom.training.position import Best, Clock, Position, RunResult, TrainedParts
from spikeloom.training.saving import Saver, of_recipe
from spikeloom.training.start import freeze, start_from

NO_FOLDER = RunFolder(Path("no run folder"))


class Trainer:
    """One run: the network, its optimizer, and the position in the training."""

    def __init__(
        self, recipe: Recipe, device: torch.device, console: Console, *, reschedule: bool = False
    ) -> None:
        """`reschedule`: checkpoints of another schedule are those of this run."""
        self.recipe = recipe
        self.reschedule = reschedule
        self.device = device
        self.console = console
        self.rank = distributed.rank()
        distributed.one_by_machine_first(self.load)

    @functools.cached_property
    def text(self) -> str:
        """The recipe as TOML."""
        return catalog.dump(self.recipe)

    def load(self) -> None:
        """Data, loaders, and what is trained; nothing here speaks to other processes."""
        cpu = torch.device("cpu")
        self.data = load_data(self.recipe, lambda spec: catalog.build(self.recipe, spec, cpu))
        self.spec = self.data.spec
        self.loaders = make_loaders(self.recipe, self.data, self.device)
        self.steps = -(-len(self.loaders.train) // self.recipe.training.accumulate)
        self.make()

    def make(self) -> None:
        """What is trained, and saved, as it is before the first step."""
        recipe = self.recipe
        self.seed("init")
        self.classifier = catalog.build(recipe, self.spec, self.device)
        self.start: str | None = None  # what it started from, in words
        self.frozen = freeze(self.classifier, recipe.start.freeze) if recipe.start.freeze else []
        groups = self.classifier.parameter_groups()
        self.optimizer = optimizers.make_optimizer(recipe.optimizer, groups)
        scaled = recipe.training.precision == "float16"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        self.callbacks: dict[str, Callback] = {}
        for i, section in enumerate(recipe.callbacks):
            self.callbacks[f"{i}.{section.kind}"] = section.build()
        self.position = Position()

    def begin(self) -> None:
        """What steps go through: the loss, on several processes where there are, and the watch."""
        loss = self.recipe.loss.build(self.classifier, self.loaders.train.split.labels)
        self.classifier.loss = loss  # type: ignore[method-assign]
        self.network = Parallel(self.classifier, self.recipe.training, self.device)
        self.score = score_of(self.spec, self.device)
        self.watch = Watch(self.classifier, self.optimizer, self.scaler.is_enabled(), self.device)

    @property
    def epoch(self) -> int:
        return self.position.epoch

    @property
    def step(self) -> int:
        return self.position.step

    @property
    def best(self) -> Best | None:
        return self.position.best

    @property
    def parts(self) -> TrainedParts:
        return TrainedParts(self.classifier, self.optimizer, self.scaler, self.callbacks)

    def fit(self, run: RunFolder) -> RunResult:
        """Trains to the last epoch from wherever the run folder stands."""
        self.enter(run)
        with run.storage_errors(), distributed.entered_by_main(run.locked()):
            try:
                return self.train_to_end()
            except _BadSums:
                self.journal.message(
                    f"something became non-finite before epoch {self.epoch}, step {self.step}; "
                    "going over the steps since the last checkpoint to find where"
                )
                self.journal.close()
                self.watches_every_step = True
                self.make()
                self.begin()
                return self.train_to_end()
            finally:
                self.journal.close()

    def enter(self, run: RunFolder = NO_FOLDER) -> None:
        """Takes `run` for the folder of this training; by default there is none, for steps that are
        tried."""
        self.run = run
        recipe, text = self.recipe, self.text
        check = of_recipe(recipe, text, self.steps, run.path, reschedule=self.reschedule)
        self.journal = Journal.of(recipe, self.console)
        self.saver = Saver(run, text, recipe.checkpoint, check, self.journal)
        self.stop, self.clock = StopRequest(), Clock()
        # On a CPU reading loss and watch costs nothing. On a GPU it would wait for the step; they
        # are looked at now and then, and a bad step is found by going over the steps again. So it
        # is on several processes, which would have to agree on it in every step.
        self.watches_every_step = self.device.type == "cpu" and distributed.world_size() == 1
        self.begin()

    def train_to_end(self) -> RunResult:
        self.restore()
        with self.stop:
            while self.epoch < self.recipe.training.epochs and not self.stops_early():
                self.train_epoch()
                self.finish_epoch()
            assert self.best is not None  # the last epoch is evaluated
            self.journal.end(self.position)
        protocol, seconds = self.recipe.protocol.name, self.position.run_seconds
        return RunResult(self.run.path, protocol, self.best, self.epoch, seconds)

    def stops_early(self) -> bool:
        """Whether a callback ends the training here, between two epochs."""
        reasons = (callback.stops(self) for callback in self.callbacks.values())
        reason = next(filter(None, reasons), None) if not self.step else None
        if reason is not None:
            self.journal.message(f"the training ends after epoch {self.epoch - 1}: {reason}")
            if self.saver.saved_step != self.position.global_step:
                self.save()
        return reason is not None

    def train_epoch(self) -> None:
        """The optimizer steps of this epoch that are left."""
        self.set_learning_rate()
        self.classifier.train()
        for module in self.frozen:
            module.eval()
        for callback in self.callbacks.values():
            callback.before_epoch(self)
        self.clock.start()
        for batches in distributed.lockstep(self.batches(), self.stop.signal, self.pause):
            schedule = self.recipe.schedule
            if schedule.each_step or self.position.global_step <= schedule.warmup_steps:
                self.set_learning_rate()
            loss, scores = self.train_step(batches)
            self.position.step += 1
            self.position.global_step += 1
            result = (loss, scores, batches[-1].targets)
            self.journal.show(self.position, "train", self.step, self.steps)
            number = self.position.global_step - 1
            self.journal.step(self.position, number, self.lr, result, self.check_sums)
            # At the end of an epoch one is written after the evaluation.
            if self.saver.due(self.position) and self.step < self.steps:
                self.clock.stop(self.position)
                self.save()

    def set_learning_rate(self) -> None:
        """Gives the optimizer the rate of the step to come; after the last one, that one's."""
        self.lr = optimizers.set_learning_rate(
            self.optimizer,
            self.recipe.schedule,
            self.epoch + min(self.step, self.steps - 1) / self.steps,
            self.position.global_step,
        )

    def batches(self) -> Iterator[list[Batch]]:
        """For each optimizer step left in this epoch, the batches whose gradients it adds up."""
        count = self.recipe.training.accumulate
        batches = self.loaders.train.epoch(self.epoch, self.step * count)
        return iter(lambda: list(islice(batches, count)), [])

    def train_step(self, batches: list[Batch]) -> tuple[Tensor, Tensor]:
        """One optimizer step; returns loss and scores of its last batch."""
        samples = sum([batch.total for batch in batches])
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
        for callback in self.callbacks.values():
            callback.after_step(self)
        if self.step + 1 == self.steps:
            self.position.idle = idle_parameters(self.classifier)
        if not self.recipe.training.carry_gradients:
            self.optimizer.zero_grad(set_to_none=True)
        return results[-1]

    def add_gradients(self, batch: Batch, share: float) -> tuple[Tensor, Tensor]:
        """Forward and backward; `share` is the part of this batch in the step's loss."""
        for callback in self.callbacks.values():
            batch = callback.change(self, batch)
        self.seed(self.epoch, batch.step, self.rank, "forward")
        with autocast(self.recipe.training.precision, self.device):
            loss, scores = self.network(batch)
        if self.watches_every_step and distributed.any_of(not math.isfinite(loss.item())):
            find = functools.partial(first_non_finite, self.classifier, batch.inputs)
            mine = not math.isfinite(loss.item())
            raise self.non_finite(f"the loss is {loss.item()}", find, batch, mine)
        self.scaler.scale(loss if share == 1 else loss * share).backward()
        self.score.add(loss, scores, batch.targets)
        return loss.detach(), scores.detach()

    def seed(self, *names: int | str) -> None:
        """Puts the global generators at the start of the stream called `names`."""
        seed_global(stream(self.recipe.seed, *names), self.device)

    def finish_epoch(self) -> None:
        """Evaluates, logs, saves, and moves on to the next epoch."""
        self.check_sums()
        config, position = self.recipe, self.position
        last = self.epoch + 1 == config.training.epochs
        test = val = None
        improved = False
        if last or (self.epoch + 1) % config.training.evaluate_every == 0:
            with ExitStack() as stack:
                for callback in self.callbacks.values():
                    stack.enter_context(callback.evaluating(self))
                val, test = self.evaluate("val"), self.evaluate("test")
            assert test is not None
            improved = position.judge(config.protocol, test, val)
        self.clock.stop(position)
        self.score.reduce()
        self.check_sums()
        self.journal.epoch(
            *(position, self.lr, self.score, self.classifier, val, test),
            self.classifier.scalars(),
            config.start.freeze,
        )
        position.next_epoch(self.score.loss)
        self.score = score_of(self.spec, self.device)
        if improved or last or self.epoch % config.checkpoint.every_epochs == 0:
            self.save()
        if improved:
            self.saver.keep_best(self.parts)

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
            spec=self.spec,
            device=self.device,
            precision=self.recipe.training.precision,
            with_rates=split == "test",
            paced=lambda batches: distributed.lockstep(batches, self.stop.signal, self.pause),
            observers=[
                lambda _, batch: self.journal.show(
                    self.position, split, batch.step + 1, len(loader)
                )
            ],
        )

    def pause(self, number: int) -> None:
        """Saves and leaves because of signal `number`."""
        self.clock.stop(self.position)
        self.save()
        self.journal.message(
            f"stopped in epoch {self.epoch} after step {self.step} of {self.steps}; "
            f"`spikeloom resume {self.run.path}` goes on from there"
        )
        self.stop.leave(number)

    def save(self) -> None:
        """Writes a checkpoint of this instant."""
        self.check_sums()
        self.saver.save(self.position, self.parts, self.score.state())

    def restore(self) -> None:
        """Continues from the newest usable checkpoint, or starts; opens the event files there."""
        restored = self.saver.restore(self.parts, self.device, self.data, self.steps)
        if restored is not None:
            self.position, sums = restored
            self.saver.load_sums(self.score, sums)
        self.saver.note(self.position)
        self.open(fresh=restored is None)
        if self.reschedule:
            # The checkpoint first: killed in between, the run stands before the change.
            self.save()
        distributed.from_main(lambda: self.saver.keep_recipe(self.text))

    @distributed.together
    def load_start(self) -> None:
        """Gives a fresh network what the recipe or its method starts from, once."""
        if self.start is None:
            self.start = start_from(self.classifier, self.recipe.start)
            self.classifier.start()

    @distributed.together
    def open(self, *, fresh: bool) -> None:
        """Opens the record; a `fresh` run starts it, after the method has loaded what it starts
        from."""
        if fresh:
            self.load_start()
        self.journal.open(self.run)
        if fresh:
            if self.start:
                self.journal.message(self.start)
            self.tell_start()

    def tell_start(self) -> None:
        """The first event of the record."""
        fields = start_fields(self.recipe, self.data, self.loaders, self.steps)
        self.journal.start(self.classifier, regression=bool(self.spec.targets), **fields)

    def check_sums(self) -> None:
        """Notices what became non-finite since the last look, where not every step is watched."""
        if distributed.any_of(not math.isfinite(self.score.loss_sum.item()) or self.watch.bad()):
            raise _BadSums

    def stop_if_bad(self, batch: Batch) -> None:
        """Raises NonFiniteError for what the watch saw, where every step is watched."""
        if not self.watches_every_step or not distributed.any_of(self.watch.bad()):
            return
        bad = self.watch.names()
        problem = f"{bad[0]} became non-finite" if bad else "another process is not finite"
        find = functools.partial(self.watch.origin, bad, batch)
        raise self.non_finite(problem, find, batch, bool(bad))

    def non_finite(
        self, problem: str, find: Callable[[], str], batch: Batch, mine: bool
    ) -> NonFiniteError:
        """The error to raise. `find` does the step on `batch` again and says where it began;
        `mine`: this process has found the fault in what it computed."""
        self.seed(self.epoch, batch.step, self.rank, "forward")
        with autocast(self.recipe.training.precision, self.device), own_batches(self.classifier):
            where = find()
        error = NonFiniteError(
            f"{problem} in epoch {self.epoch}, step {self.step} (optimizer step "
            f"{self.position.global_step}): it began in {where}; {self.saver.good}; "
            "train again with a lower optimizer.lr, or with training.clip_norm"
        )
        return distributed.common(error, mine)


class _BadSums(Exception):
    """The sums of the epoch are not finite, and the step that did it is not known."""
