"""One stream, three sinks."""

import errno
import io
import json
import math

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spikeloom.errors import RunError
from spikeloom.run.reading import read_events
from spikeloom.run.records import ConsoleLines, JsonLines, Stream, TensorBoard

START = {
    "event": "start",
    "method": "plif",
    "recipe": "plif/mnist",
    "data": "mnist",
    "protocol": "A",
    "parameters": 13198980,
    "train_samples": 60000,
    "test_samples": 10000,
}
STEP = {"event": "step", "epoch": 0, "step": 256, "loss": 0.1, "accuracy": 0.25, "lr": 1e-3}
EPOCH = {
    "event": "epoch",
    "epoch": 0,
    "step": 3750,
    "lr": 1e-3,
    "train_loss": 0.1 + 0.2,
    "train_accuracy": 0.5,
    "seconds": 75.0,
    "constants": {"conv.0/tau": {"mean": 2.5, "min": 2.0, "max": 3.0}},
    "scalars": {"w0": -0.5, "bad": math.inf},
    "test": {
        "loss": 0.2,
        "accuracy": 0.75,
        "top5_accuracy": 0.875,
        "firing_rates": {"conv.0": 0.125},
    },
    "val": None,
    "best": {"epoch": 0, "metric": "test accuracy", "value": 0.75, "test_accuracy": 0.75},
}
END = {
    "event": "end",
    "protocol": "A",
    "best": EPOCH["best"],
    "confusion": [[1]],
    "seconds": 3800.0,
}
PROGRESS = {"event": "progress", "epoch": 0, "epochs": 4, "phase": "train", "step": 5, "steps": 10}
ALL = [START, PROGRESS, STEP, EPOCH, {"event": "message", "text": "hello"}, END]


def console(*, terminal: bool) -> Console:
    return Console(
        file=io.StringIO(),
        width=200,
        force_terminal=terminal,
        legacy_windows=False,
        color_system=None,
    )


def printed(target: Console) -> str:
    assert isinstance(target.file, io.StringIO)
    return target.file.getvalue()


def test_the_record_keeps_every_bit_and_only_the_run(tmp_path):
    stream = Stream([JsonLines(tmp_path / "m.jsonl")])
    for event in ALL:
        stream.emit(event)
    stream.close()
    events = read_events(tmp_path / "m.jsonl")
    assert [event["event"] for event in events] == ["start", "step", "epoch", "end"]
    assert events[2]["train_loss"] == 0.30000000000000004
    assert events[2]["scalars"] == {"w0": -0.5, "bad": None}
    for line in (tmp_path / "m.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # strict JSON: no NaN, no Infinity


def test_a_line_that_was_cut_short_is_not_read(tmp_path):
    path = tmp_path / "m.jsonl"
    assert read_events(path) == []
    path.write_bytes(b'{"event": "start"}\n{"event": "st')
    assert read_events(path) == [{"event": "start"}]


def test_tensorboard_has_the_published_tags(tmp_path):
    board = Stream([TensorBoard(tmp_path)])
    for event in ALL:
        board.emit(event)
    board.close()
    reader = EventAccumulator(str(tmp_path))
    reader.Reload()
    found = {
        tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]
    }
    assert found == {
        "train_loss": [(256, pytest.approx(0.1))],
        "train_accuracy": [(256, 0.25)],
        "test_loss": [(0, pytest.approx(0.2))],
        "test_accuracy": [(0, 0.75)],
        "test_top5_accuracy": [(0, 0.875)],
        "lr": [(0, pytest.approx(1e-3))],
        "seconds": [(0, 75.0)],
        "firing_rate/conv.0": [(0, 0.125)],
        "constants/conv.0/tau": [(3750, 2.5)],
        "w0": [(3750, -0.5)],
    }


def test_a_new_tensorboard_sink_replaces_the_files_of_the_one_before(tmp_path):
    for _ in range(2):
        board = TensorBoard(tmp_path)
        board.emit(STEP)
        board.close()
    assert len(list(tmp_path.iterdir())) == 1


def test_piped_output_is_plain_lines():
    target = console(terminal=False)
    stream = Stream([ConsoleLines(target)])
    for event in ALL:
        stream.emit(event)
    stream.close()
    assert printed(target).splitlines() == [
        "plif on mnist: 13,198,980 parameters, 60,000 training and 10,000 test samples, accuracy-A",
        "epoch 0  loss 0.3000  train 50.00%  test 75.00%  best 75.00%  lr 0.001  1 min 15 s",
        "hello",
        "accuracy-A 75.00% (test accuracy of epoch 0, chosen by test accuracy) in 1 h 03 min",
    ]


def test_a_terminal_has_a_live_line_that_gives_way_to_the_epochs():
    target = console(terminal=True)
    sink = ConsoleLines(target)
    sink.emit(PROGRESS)
    assert "epoch 0 of 4 train" in printed(target) and " 5/10" in printed(target)
    sink.emit({**PROGRESS, "step": 8})
    assert "/s" in printed(target)
    sink.emit(EPOCH)
    sink.close()
    assert printed(target).rstrip().endswith("1 min 15 s")


def test_progress_is_passed_on_ten_times_a_second_at_most():
    seen = []

    class Counting:
        def emit(self, event):
            seen.append(event)

        def flush(self): ...

        def close(self): ...

    stream = Stream([Counting()])
    for step in range(1000):
        stream.progress(step=step)
    assert 1 <= len(seen) < 20


def test_a_sink_that_cannot_write_is_named():
    class Full:
        def emit(self, event):
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self): ...

        def close(self): ...

    with pytest.raises(RunError, match="Full cannot write: No space left on device; make room"):
        Stream([Full()]).emit(STEP)
