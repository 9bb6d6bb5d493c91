"""What a training tells: its record, TensorBoard, and whoever watches."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from torch import Tensor, nn

from spikeloom.analysis.constants import learned_constants
from spikeloom.analysis.health import Health, News, diagnose
from spikeloom.config.schema import LoggingConfig, Recipe
from spikeloom.data.base import DataSet
from spikeloom.data.for_recipe import Loaders
from spikeloom.data.survey import data_notes
from spikeloom.errors import RunError
from spikeloom.evaluation.measure import Measurement
from spikeloom.evaluation.metrics import Score, mini_batch
from spikeloom.processes import distributed
from spikeloom.run.device import peak_memory_mb
from spikeloom.run.folder import RunFolder
from spikeloom.run.records import ConsoleLines, JsonLines, Sink, Stream, TensorBoard
from spikeloom.training.position import Position


class Journal(Stream):
    """The events of a training; before it is opened they are for whoever watches. Other processes
    than the main one tell nobody.

    `protocol`: the name of the one that chooses the best epoch. `watch`: what is done about a
    network that is not well, see `TrainingConfig`. `epochs`: how many there are to be.
    """

    def __init__(
        self,
        console: Console,
        logging: LoggingConfig,
        protocol: str = "A",
        watch: str = "warn",
        epochs: int = 0,
    ) -> None:
        self._watching: list[Sink] = [ConsoleLines(console)] if distributed.is_main() else []
        super().__init__(self._watching)
        self.logging, self.protocol, self.watch, self.epochs = logging, protocol, watch, epochs
        self._news = News()

    @classmethod
    def of(cls, recipe: Recipe, console: Console) -> "Journal":
        """That of a training of `recipe`."""
        training = recipe.training
        return cls(console, recipe.logging, recipe.protocol.name, training.watch, training.epochs)

    def open(self, run: RunFolder) -> None:
        """Opens the record, with TensorBoard brought to where metrics.jsonl stands."""
        if not distributed.is_main():
            return
        sinks: list[Sink] = [JsonLines(run.metrics), *self._watching]
        if self.logging.tensorboard:
            board = TensorBoard(run.tensorboard)
            board.replay(run.metrics, self.message)
            sinks.append(board)
        self.sinks = sinks

    def close(self) -> None:
        super().close()
        self.sinks = self._watching

    def start(self, network: nn.Module, *, regression: bool, **fields: Any) -> None:
        """What is trained; `fields`: more that is known about it."""
        self._emit(
            "start",
            task="regression" if regression else "classification",
            protocol=self.protocol,
            parameters=sum(p.numel() for p in network.parameters()),
            processes=distributed.world_size(),
            **fields,
        )

    def step(
        self,
        position: Position,
        number: int,
        lr: float,
        result: tuple[Tensor, Tensor, Tensor],
        check: Callable[[], None],
    ) -> None:
        """Every so many steps the current mini-batch; `number` counts from 0, as published.

        `result`: loss, scores, and labels of it. `check` is called before they are read.
        """
        if number % self.logging.every_steps == 0:
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
        network: nn.Module,
        val: Measurement | None,
        test: Measurement | None,
        scalars: Mapping[str, float],
        frozen: Sequence[str] = (),
    ) -> None:
        """What an epoch reports, and what is wrong with the network if that is new.

        `scalars`: figures of the method's or the user's own. `frozen`: patterns of parameters that
        are not to learn. Between evaluations nothing is said about health: what they have shown
        would count as mended.

        Raises:
            RunError: a layer is silent, and the run is to stop for that.
        """
        best = position.best
        health = Health()
        if looked := test is not None or best is None:
            health = diagnose(
                network,
                {} if test is None else test.firing_rates,
                spikes=None if test is None else test.spikes,
                without_gradient=position.idle,
                confusion=None if test is None else test.confusion,
                losses=(position.loss, score.loss),
                frozen_on_purpose=frozen,
            )
        self._emit(
            "epoch",
            epoch=position.epoch,
            step=position.global_step,
            lr=lr,
            train_loss=score.loss,
            train_accuracy=score.accuracy,
            seconds=position.epoch_seconds,
            constants=learned_constants(network),
            scalars=dict(scalars),
            test=None if test is None else test.to_dict(),
            val=None if val is None else val.to_dict(),
            best=None if best is None else best.to_dict(),
            health=health.to_dict(),
        )
        if self.watch == "stop" and health.silent:
            raise RunError(f"{health.advice()['silent']} (training.watch = stop)")
        for line in self._news.lines(health) if looked and self.watch != "off" else ():
            self.message(line)

    def end(self, position: Position) -> None:
        best, confusion = position.best, position.confusion
        self._emit(
            "end",
            protocol=self.protocol,
            best=None if best is None else best.to_dict(),
            confusion=[] if confusion is None else confusion.tolist(),
            seconds=position.run_seconds,
            cpu_seconds=position.cpu_seconds,
            peak_memory_mb=peak_memory_mb(),
        )

    def show(self, position: Position, phase: str, done: int, steps: int) -> None:
        self.progress(epoch=position.epoch, epochs=self.epochs, phase=phase, step=done, steps=steps)

    def _emit(self, kind: str, **fields: Any) -> None:
        self.emit({"event": kind, **fields})


def start_fields(recipe: Recipe, data: DataSet, loaders: Loaders, steps: int) -> dict[str, Any]:
    """What the start of a training of `recipe` reports besides the network."""
    config, val = recipe.data, loaders.val
    return {
        "method": recipe.method,
        "recipe": recipe.title,
        "data": data.spec.name,
        "train_samples": len(loaders.train.split),
        "val_samples": 0 if val is None else len(val.split),
        "test_samples": len(loaders.test.split),
        "steps_per_epoch": steps,
        "step_samples": config.batch_size * recipe.training.accumulate * distributed.world_size(),
        "notes": data_notes(config, data),
    }
