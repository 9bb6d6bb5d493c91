"""What a training tells: its record, TensorBoard, and whoever watches."""

import os
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from torch import Tensor, nn

from spikeloom.analysis.constants import learned_constants
from spikeloom.analysis.health import Health, News
from spikeloom.config.schema import Recipe
from spikeloom.data.base import DataSet
from spikeloom.data.survey import data_notes
from spikeloom.errors import RunError
from spikeloom.evaluation.loaders import Loaders
from spikeloom.evaluation.measure import Measurement
from spikeloom.evaluation.metrics import Score, mini_batch
from spikeloom.nn.classifier import Classifier
from spikeloom.processes import distributed
from spikeloom.run.device import peak_memory_mb
from spikeloom.run.folder import RunFolder
from spikeloom.run.records import ConsoleLines, JsonLines, Sink, Stream, TensorBoard
from spikeloom.training.position import Position


class Clock:
    """Counts the time spent training into a position."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._at, self._worked = time.monotonic(), sum(os.times()[:4])

    def stop(self, position: Position) -> None:
        """Adds the time since the clock was started or last stopped."""
        now, worked = time.monotonic(), sum(os.times()[:4])  # of this process and its children
        position.epoch_seconds += now - self._at
        position.run_seconds += now - self._at
        position.cpu_seconds += worked - self._worked
        self._at, self._worked = now, worked


class Journal:
    """The events of a run, told to its sinks; other processes than the main one have none."""

    def __init__(self, recipe: Recipe, console: Console) -> None:
        self.recipe = recipe
        self.console = ConsoleLines(console)
        self.stream = self.watching()
        self._news = News()

    def watching(self) -> Stream:
        """For messages only: before the record is opened."""
        return Stream([self.console] if distributed.is_main() else [])

    def open(self, run: RunFolder) -> None:
        """Opens the sinks, with TensorBoard brought to where metrics.jsonl stands."""
        if not distributed.is_main():
            return
        sinks: list[Sink] = [JsonLines(run.metrics), self.console]
        if self.recipe.logging.tensorboard:
            board = TensorBoard(run.tensorboard)
            board.replay(run.metrics, self.watching().message)
            sinks.append(board)
        self.stream = Stream(sinks)

    def start(self, data: DataSet, loaders: Loaders, classifier: Classifier, steps: int) -> None:
        recipe, val = self.recipe, loaders.val
        step_samples = recipe.data.batch_size * recipe.training.accumulate
        self._emit(
            "start",
            method=recipe.method,
            recipe=recipe.title,
            data=data.spec.name,
            task="regression" if data.spec.targets else "classification",
            protocol=recipe.protocol.name,
            parameters=sum(p.numel() for p in classifier.parameters()),
            train_samples=len(loaders.train.split),
            val_samples=0 if val is None else len(val.split),
            test_samples=len(loaders.test.split),
            steps_per_epoch=steps,
            processes=distributed.world_size(),
            step_samples=step_samples * distributed.world_size(),
            notes=data_notes(recipe.data, data),
        )

    def step(
        self,
        position: Position,
        steps: int,
        lr: float,
        result: tuple[Tensor, Tensor, Tensor],
        check: Callable[[], None],
    ) -> None:
        """Every so many steps the current mini-batch; the counter starts at 0, as published.

        `result`: loss, scores, and labels of it. `check` is called before they are read.
        """
        self.progress(position, "train", position.step, steps)
        number = position.global_step - 1
        if number % self.recipe.logging.every_steps == 0:
            check()
            loss, accuracy = mini_batch(*result)
            self._emit(
                "step", epoch=position.epoch, step=number, loss=loss, accuracy=accuracy, lr=lr
            )

    def epoch(
        self,
        position: Position,
        lr: float,
        score: Score,
        classifier: Classifier,
        val: Measurement | None,
        test: Measurement | None,
        health: Health | None,
    ) -> None:
        event = epoch_event(position, lr, score, classifier, val, test, health)
        self.stream.emit(event | {"scalars": classifier.scalars()})
        if health is not None:
            self._warn(health)

    def _warn(self, health: Health) -> None:
        """Of what was not wrong before; or ends the run where a layer is silent."""
        watch = self.recipe.training.watch
        if watch == "stop" and health.silent:
            raise RunError(f"{health.advice()['silent']} (training.watch = stop)")
        for line in self._news.lines(health) if watch != "off" else ():
            self.message(line)

    def end(self, position: Position) -> None:
        self.stream.emit(end_event(position, self.recipe.protocol.name))

    def progress(self, position: Position, phase: str, done: int, steps: int) -> None:
        self.stream.progress(
            epoch=position.epoch,
            epochs=self.recipe.training.epochs,
            phase=phase,
            step=done,
            steps=steps,
        )

    def message(self, text: str) -> None:
        self.stream.message(text)

    def _emit(self, kind: str, **fields: Any) -> None:
        self.stream.emit({"event": kind, **fields})


def epoch_event(
    position: Position,
    lr: float,
    score: Score,
    network: nn.Module,
    val: Measurement | None,
    test: Measurement | None,
    health: Health | None,
) -> dict[str, Any]:
    """What an epoch reports, without figures of the method's own (`scalars`)."""
    return {
        "event": "epoch",
        "epoch": position.epoch,
        "step": position.global_step,
        "lr": lr,
        "train_loss": score.loss,
        "train_accuracy": score.accuracy,
        "seconds": position.epoch_seconds,
        "constants": learned_constants(network),
        "scalars": {},
        "test": None if test is None else test.to_dict(),
        "val": None if val is None else val.to_dict(),
        "best": None if position.best is None else position.best.to_dict(),
        "health": {} if health is None else health.to_dict(),
    }


def end_event(position: Position, protocol: str) -> dict[str, Any]:
    """What the end of a run reports."""
    return {
        "event": "end",
        "protocol": protocol,
        "best": None if position.best is None else position.best.to_dict(),
        "confusion": [] if position.confusion is None else position.confusion.tolist(),
        "seconds": position.run_seconds,
        "cpu_seconds": position.cpu_seconds,
        "peak_memory_mb": peak_memory_mb(),
    }
