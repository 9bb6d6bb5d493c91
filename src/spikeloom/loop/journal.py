"""What a loop of one's own tells: its record, TensorBoard, and whoever watches."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from torch import Tensor, nn

from spikeloom.analysis.health import News, diagnose
from spikeloom.data.base import DataSet
from spikeloom.evaluation.metrics import Score
from spikeloom.loop.evaluation import Seen
from spikeloom.run.folder import RunFolder
from spikeloom.run.records import ConsoleLines, JsonLines, Sink, Stream, TensorBoard
from spikeloom.training.journal import end_event, epoch_event
from spikeloom.training.position import Position


class LoopJournal:
    """The events of a loop, told to its sinks; before `open` to the console alone."""

    def __init__(self, console: Console, network: nn.Module) -> None:
        self._network = network
        self._console = ConsoleLines(console)
        self._news = News()
        self.stream = Stream([self._console])

    def open(self, place: RunFolder, tensorboard: bool) -> None:
        """Opens the sinks, TensorBoard brought to where metrics.jsonl stands."""
        sinks: list[Sink] = [JsonLines(place.metrics), self._console]
        if tensorboard:
            board = TensorBoard(place.tensorboard)
            board.replay(place.metrics, self.stream.message)
            sinks.append(board)
        self.stream = Stream(sinks)

    def start(
        self,
        about: Mapping[str, Any],
        data: DataSet | None,
        samples: int | None,
        votes: Tensor | None,
        targets: Tensor,
    ) -> None:
        """The first mini-batch shows what is trained: its `votes` and `targets`."""
        event: dict[str, Any] = {
            "event": "start",
            "method": about["method"],
            "recipe": about["title"],
            "data": "data of its own" if data is None else data.spec.name,
            "task": "regression" if targets.is_floating_point() else "classification",
            "protocol": "A",
            "parameters": sum(p.numel() for p in self._network.parameters()),
            "time_steps": None if votes is None else len(votes),
            "processes": 1,
            "notes": [] if data is None else list(data.notes),
        }
        if samples:
            event["train_samples"] = samples
        self.stream.emit(event)

    def step(self, epoch: int, step: int, loss: float, accuracy: float, lr: float) -> None:
        event = {"event": "step", "epoch": epoch, "step": step, "loss": loss}
        self.stream.emit(event | {"accuracy": accuracy, "lr": lr})

    def epoch(
        self,
        position: Position,
        lr: float,
        score: Score,
        val: Seen | None,
        test: Seen | None,
        figures: Mapping[str, float],
    ) -> None:
        """The record of an epoch, and what is wrong with the network if that is new."""
        tested = None if test is None else test.measurement
        validated = None if val is None else val.measurement
        found = diagnose(
            self._network,
            {} if tested is None else tested.firing_rates,
            spikes=None if tested is None else tested.spikes,
            without_gradient=position.idle,
            confusion=None if tested is None else tested.confusion,
            losses=(position.loss, score.loss),
        )
        event = epoch_event(position, lr, score, self._network, validated, tested, found)
        event["scalars"] = dict(figures)
        if tested is not None:
            event["test"] |= {"samples": tested.samples}
        self.stream.emit(event)
        for line in self._news.lines(found):
            self.stream.message(line)

    def end(self, position: Position) -> None:
        self.stream.emit(end_event(position, "A"))
        self.stream.flush()
