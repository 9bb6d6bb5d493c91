"""One stream of events, three sinks: JSON lines, TensorBoard, and the console.

An event is a flat dictionary with its kind under "event": "start", "step", "epoch", and "end" are
the record of a run, one line each in metrics.jsonl. "progress" and "message" are for whoever
watches and are not recorded, so that the record of a resumed run equals that of an uninterrupted
one except for its wall times.
"""

import json
import math
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.text import Text
from tensorboard.compat.proto.event_pb2 import (
    Event as TensorBoardEvent,  # pyright: ignore[reportAttributeAccessIssue] - made at run time
)
from tensorboard.compat.proto.summary_pb2 import (
    Summary,  # pyright: ignore[reportAttributeAccessIssue] - made at run time
)
from tensorboard.summary.writer.record_writer import RecordWriter

from spikeloom import files
from spikeloom.analysis.health import Health
from spikeloom.errors import RunError
from spikeloom.progress import Bar
from spikeloom.run.reading import RECORDED, read_events
from spikeloom.units import duration

Event = Mapping[str, Any]
_SPLITS = (("train", "training"), ("test", "test"))
_LIVE_INTERVAL = 0.1  # seconds between updates of the live line


class Sink(Protocol):
    """Where events go."""

    def emit(self, event: Event) -> None: ...

    def flush(self) -> None:
        """Brings everything emitted so far to the disk."""
        ...

    def close(self) -> None: ...


class Stream:
    """Hands every event to every sink.

    Raises RunError, naming the cause, if a sink cannot write (a full disk, say).
    """

    def __init__(self, sinks: list[Sink]) -> None:
        self.sinks = sinks
        self._next_progress = 0.0

    def emit(self, event: Event) -> None:
        """Numbers that are not finite are passed on as None, which JSON can say."""
        event = _finite(event)
        self._each(lambda sink: sink.emit(event))

    def message(self, text: str) -> None:
        """A line for whoever watches; not part of the record."""
        self.emit({"event": "message", "text": text})

    def progress(self, **fields: object) -> None:
        """Where the run is now; passed on ten times a second at most, so it may be called often."""
        now = time.monotonic()
        if now >= self._next_progress:
            self._next_progress = now + _LIVE_INTERVAL
            self.emit({"event": "progress", **fields})

    def flush(self) -> None:
        self._each(lambda sink: sink.flush())

    def close(self) -> None:
        self._each(lambda sink: sink.close())

    def _each(self, action: Callable[[Sink], None]) -> None:
        for sink in self.sinks:
            try:
                action(sink)
            except BrokenPipeError:
                raise
            except OSError as error:
                raise RunError(
                    f"{type(sink).__name__} cannot write: {error.strerror or error}; "
                    "make room, then resume the run from its last checkpoint"
                ) from error


class JsonLines:
    """metrics.jsonl: one JSON object a line; numbers keep every bit."""

    def __init__(self, path: Path) -> None:
        self._file = files.open_to_append(path)

    def emit(self, event: Event) -> None:
        if event["event"] in RECORDED:
            self._file.write(json.dumps(event, allow_nan=False).encode() + b"\n")
            self._file.flush()

    def flush(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class TensorBoard:
    """Scalars for TensorBoard, written as they come by its own RecordWriter. A SummaryWriter's
    thread also raises what it hands on: a full disk would be a traceback beside the one line.

    The published programs' tags where they have one: train_loss, train_accuracy (current
    mini-batch, against the optimizer step), test_accuracy, val_accuracy (against the epoch), and a
    method's own scalars under their names (against the step at the end of the epoch). Besides:
    test_loss, val_loss, test_top5_accuracy (above 5 classes), lr, seconds,
    constants/<layer>/<name>, firing_rate/<layer>.
    """

    def __init__(self, folder: Path) -> None:
        """Starts the folder anew: a resumed run replays its record into it."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        self._file = open(folder / name, "wb")  # noqa: SIM115 - closed by close()
        self._records = RecordWriter(self._file)
        self._write(TensorBoardEvent(file_version="brain.Event:2"))

    def emit(self, event: Event) -> None:
        for (tag, x), value in _scalars(event):
            if value is not None:
                values = [Summary.Value(tag=tag, simple_value=value)]
                self._write(TensorBoardEvent(step=x, summary=Summary(value=values)))
        if event["event"] == "epoch":
            self._records.flush()

    def replay(self, record: Path, tell: Callable[[str], None]) -> None:
        """Everything that a metrics.jsonl holds; `tell` receives a line for what it cannot say."""
        for event in read_events(record, tell):
            try:
                self.emit(event)
            except (KeyError, TypeError, ValueError, AttributeError):
                tell(f"{record}: a damaged {event['event']} event is not shown in TensorBoard")

    def _write(self, event: TensorBoardEvent) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())

    def flush(self) -> None:
        self._records.flush()

    def close(self) -> None:
        self._file.close()


class ConsoleLines:
    """Plain lines where the output is piped; on a terminal, one line per epoch that lives while
    the epoch runs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Bar | None = None
        self._regression = False  # what is called accuracy is r2 then

    def emit(self, event: Event) -> None:
        match event["event"]:
            case "progress":
                self._show(event)
                return
            case "start":
                self._regression = event.get("task") == "regression"
                sizes = [
                    f"{event[f'{k}_samples']:,} {w}" for k, w in _SPLITS if f"{k}_samples" in event
                ]
                line = (
                    f"{event['method']} on {event['data']}: {event['parameters']:,} parameters, "
                    f"{' and '.join(sizes)} samples, "
                    f"{'r2' if self._regression else 'accuracy'}-{event['protocol']}"
                )
                if event.get("processes", 1) > 1:
                    line += (
                        f"; {event['processes']} processes, {event['step_samples']} samples a step"
                    )
                line += "".join(f"\nnote: {note}" for note in event.get("notes", ()))
            case "epoch":
                line = _epoch_line(event, ".4f" if self._regression else ".2%")
            case "end":
                line = _end_line(event, "r2" if self._regression else "accuracy")
            case "message":
                line = event["text"]
            case _:
                return
        self.flush()
        self._console.print(Text(line), soft_wrap=True)

    def _show(self, event: Event) -> None:
        if not self._console.is_terminal:
            return
        phase = f"epoch {event['epoch']} of {event['epochs']} {event['phase']}"
        if self._bar is None or self._bar.title != phase:
            self.flush()
            self._bar = Bar(phase, console=self._console, transient=True)
        self._bar.show(event["step"], event["steps"])

    def flush(self) -> None:
        """Takes the live line away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def close(self) -> None:
        self.flush()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _scalars(event: Event) -> Iterator[tuple[tuple[str, int], float | None]]:
    """((tag, x), value) of everything in `event` that TensorBoard shows."""
    step, epoch = event.get("step", 0), event.get("epoch", 0)
    if event["event"] == "step":
        for name in ("loss", "accuracy"):
            yield (f"train_{name}", step), event[name]
    elif event["event"] == "epoch":
        yield ("lr", epoch), event["lr"]
        yield ("seconds", epoch), event["seconds"]
        for split in ("test", "val"):
            for name in ("accuracy", "top5_accuracy", "loss", "mse", "mae", "r2"):
                if event[split] is not None and name in event[split]:
                    yield (f"{split}_{name}", epoch), event[split][name]
        for layer, rate in (event["test"] or {}).get("firing_rates", {}).items():
            yield (f"firing_rate/{layer}", epoch), rate
        for name, values in event["constants"].items():
            yield (f"constants/{name}", step), values["mean"]
        for name, value in event["scalars"].items():
            yield (name, step), value


def _epoch_line(event: Event, form: str) -> str:
    parts = [
        f"epoch {event['epoch']}",
        f"loss {event['train_loss']:.4f}",
        f"train {event['train_accuracy']:{form}}",
    ]
    parts += [f"{name} {event[name]['accuracy']:{form}}" for name in ("val", "test") if event[name]]
    if event["best"]:
        parts.append(f"best {event['best']['test_accuracy']:{form}}")
    parts += [f"lr {event['lr']:.3g}", duration(event["seconds"])]
    wrong = Health.from_dict(event.get("health", {})).short()
    return "  ".join([*parts, wrong] if wrong else parts)


def _end_line(event: Event, figure: str) -> str:
    best = event["best"]
    if best is None:
        return f"finished without an evaluation in {duration(event['seconds'])}"
    form = ".4f" if figure == "r2" else ".2%"
    return (
        f"{figure}-{event['protocol']} {best['test_accuracy']:{form}} (test {figure} of epoch "
        f"{best['epoch']}, chosen by {best['metric']}) in {duration(event['seconds'])}"
    )
