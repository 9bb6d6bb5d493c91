"""A run folder as a typed object.

The folder may belong to a run that is still going on or that was killed: every file but recipe.toml
may be missing, and the last line of metrics.jsonl may be cut short. What cannot be read is named
in `RunRecord.problems`; the rest is used.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from spikeloom import files
from spikeloom.analysis.health import Health
from spikeloom.errors import ConfigError, RunError

RECORDED = ("start", "step", "epoch", "end")
"""The kinds of events that a record has."""


class Record(BaseModel):
    """Base of what a line of metrics.jsonl holds; keys that this version does not know are
    ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=True)


class SpreadRecord(Record):
    """Mean, minimum and maximum of a constant over one layer."""

    mean: float
    min: float
    max: float


class ScoreRecord(Record):
    """One evaluation; accuracy is a fraction, firing rates are spikes per neuron and time step. A
    loop of one's own may have no loss of tests; it says how many `samples` it tested."""

    loss: float | None = None
    accuracy: float
    firing_rates: dict[str, float] = {}
    samples: int | None = None


class BestRecord(Record):
    """The epoch that the protocol reports, and by which metric it was chosen."""

    epoch: int
    metric: str
    value: float
    test_accuracy: float


class StartRecord(Record):
    parameters: int | None = None
    train_samples: int | None = None
    test_samples: int | None = None
    notes: tuple[str, ...] = ()
    task: str = "classification"
    time_steps: int | None = None


class StepRecord(Record):
    epoch: int
    step: int
    loss: float
    accuracy: float
    lr: float


class EpochRecord(Record):
    """Everything that one epoch reports; `seconds` is its wall time."""

    epoch: int
    step: int
    lr: float
    train_loss: float
    train_accuracy: float
    seconds: float
    constants: dict[str, SpreadRecord] = {}
    scalars: dict[str, float] = {}
    test: ScoreRecord | None = None
    val: ScoreRecord | None = None
    best: BestRecord | None = None
    health: dict[str, Any] = {}


class EndRecord(Record):
    """`confusion[label][prediction]` counts test samples; `seconds` is the wall time of the run,
    `cpu_seconds` that of all its threads, `peak_memory_mb` the most that its process held (of the
    GPU, where it ran on one).
    """

    best: BestRecord | None = None
    confusion: tuple[tuple[int, ...], ...] = ()
    seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory_mb: float | None = None


@dataclass(frozen=True)
class RunRecord:
    """One run folder. `recipe` is the parsed recipe.toml, `recipe_text` its text."""

    folder: Path
    recipe: Mapping[str, Any]
    recipe_text: str
    environment: Mapping[str, Any] = field(default_factory=dict)
    start: StartRecord = field(default_factory=StartRecord)
    steps: tuple[StepRecord, ...] = ()
    epochs: tuple[EpochRecord, ...] = ()
    end: EndRecord | None = None
    problems: tuple[str, ...] = ()

    def setting(self, key: str, default: Any = None) -> Any:
        """The recipe's value at a dotted key, as "training.epochs"."""
        value: Any = self.recipe
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return default
            value = value[part]
        return value

    @property
    def name(self) -> str:
        """The last two parts of the folder, as "plif-mnist/3"."""
        return "/".join(self.folder.resolve().parts[-2:])

    @property
    def title(self) -> str:
        return str(self.setting("title") or self.name)

    @property
    def origin(self) -> str:
        """The recipe's name, as "plif/mnist"; else method and data."""
        named = self.setting("origin") or ""
        return str(named or f"{self.setting('method', '?')}/{self.setting('data.name', '?')}")

    @property
    def notes(self) -> str:
        return str(self.setting("notes") or "").strip()

    @property
    def health(self) -> Health:
        """What is wrong with the network after the last epoch that was evaluated."""
        looked = (epoch.health for epoch in reversed(self.epochs) if epoch.test is not None)
        return Health.from_dict(next(looked, {}))

    @property
    def started(self) -> str:
        """When the run began, as its environment says; empty if it does not."""
        return str(self.environment.get("started", ""))

    @property
    def command(self) -> str:
        """What began it, without the name of its folder; empty if its environment does not say."""
        return re.sub(r" --(out|name) \S+", "", str(self.environment.get("command", "")))

    @property
    def protocol(self) -> str:
        return str(self.setting("protocol.name", "A"))

    @property
    def published(self) -> float | None:
        """The published accuracy under this run's protocol, in percent."""
        value = self.setting("published", {}).get(self.protocol)
        return None if value is None else float(value)

    @property
    def time_steps(self) -> int | None:
        return self.setting("network.T", self.start.time_steps)

    @property
    def test_samples(self) -> int | None:
        tests = (e.test.samples for e in reversed(self.epochs) if e.test is not None)
        return self.start.test_samples or next(tests, None)

    @property
    def figure(self) -> str:
        """What is called accuracy: r2 of a regression."""
        return "r2" if self.start.task == "regression" else "accuracy"

    @property
    def planned_epochs(self) -> int | None:
        return self.setting("training.epochs")

    @property
    def finished(self) -> bool:
        return self.end is not None

    @property
    def best(self) -> BestRecord | None:
        """The protocol's result so far."""
        if self.end is not None and self.end.best is not None:
            return self.end.best
        return next((e.best for e in reversed(self.epochs) if e.best is not None), None)

    @property
    def seconds(self) -> float:
        """Wall time; of the epochs so far where the run has not ended."""
        if self.end is not None and self.end.seconds is not None:
            return self.end.seconds
        return sum(epoch.seconds for epoch in self.epochs)

    @property
    def firing_rates(self) -> dict[str, float]:
        """The rates of the last evaluation, by layer; empty before the first."""
        rates = (e.test.firing_rates for e in reversed(self.epochs) if e.test is not None)
        return next(rates, {})


def no_run(folder: Path) -> str:
    """Why `folder` is no run folder, and which there are below it."""
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "does not exist"
        return f"{folder} {kind}: give the folder of a run that `spikeloom train` made"
    below = sorted(path.parent.name for path in folder.glob("*/recipe.toml"))
    if not below:
        return (
            f"{folder} holds no recipe.toml: give the folder of a run that `spikeloom train` made"
        )
    more = ", ..." if len(below) > 8 else ""
    return (
        f"{folder} holds no recipe.toml; the runs in it are {', '.join(below[:8])}{more}: "
        f"give one of them, as {folder / below[0]}"
    )


def read(folder: Path) -> RunRecord:
    """The run in `folder`.

    Raises:
        RunError: it is not a run folder (no recipe.toml), or its recipe.toml is not TOML.
    """
    path = folder / "recipe.toml"
    try:
        text = path.read_text(encoding="utf-8")
        recipe = files.parse_toml(text)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(no_run(folder)) from error
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise RunError(f"{path} cannot be read ({error}): restore it, then try again") from error
    problems: list[str] = []
    record = folder / "metrics.jsonl"
    events = read_events(record, problems.append)
    if not record.is_file():
        problems.append("metrics.jsonl is missing: the run has not recorded anything yet.")
    if (environment := environment_of(folder)) is None:
        problems.append("environment.json is missing or damaged.")
    starts = _records(events, "start", StartRecord, problems)
    ends = _records(events, "end", EndRecord, problems)
    steps = _records(events, "step", StepRecord, problems)
    epochs = _records(events, "epoch", EpochRecord, problems)
    return RunRecord(
        folder=folder,
        recipe=recipe,
        recipe_text=text,
        environment=environment or {},
        start=starts[-1] if starts else StartRecord(),
        # A run that was resumed may have written an epoch twice: the later record counts.
        steps=tuple({record.step: record for record in steps}.values()),
        epochs=tuple({record.epoch: record for record in epochs}.values()),
        end=ends[-1] if ends else None,
        problems=tuple(problems),
    )


def read_events(
    path: Path | str, tell: Callable[[str], None] | None = None
) -> list[dict[str, Any]]:
    """The events in a metrics.jsonl, those of kinds that this version does not know left out, and
    so is a last line that was cut short: a run that is going on, or was killed.

    Args:
        path: The file, or its run folder; none is an empty record.
        tell: Receives one line for each damaged line, which is left out.

    Raises:
        RunError: a line is damaged, and there is no `tell`.
    """
    path = Path(path)
    path = path / "metrics.jsonl" if path.is_dir() else path
    if not path.exists():
        return []
    events = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            event = files.parse_json(line)
        except ValueError:
            event = None
        if isinstance(event, dict):
            events += [event] if event.get("event") in RECORDED else []
            continue
        problem = f"{path}, line {number}: not an event of a run, expected a JSON object"
        if tell is None:
            raise RunError(f"{problem}: delete the line")
        tell(f"{problem}; left out")
    return events


R = TypeVar("R", bound=Record)


def _records(
    events: list[dict[str, Any]], kind: str, record: type[R], problems: list[str]
) -> list[R]:
    records = []
    for event in events:
        if event.get("event") != kind:
            continue
        try:
            records.append(record.model_validate(event))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            problems.append(f"metrics.jsonl: {kind} record left out: {where}: {first['msg']}.")
    return records


def environment_of(folder: Path) -> dict[str, Any] | None:
    """What environment.json holds; None if it is not there or damaged."""
    try:
        values = files.parse_json((folder / "environment.json").read_bytes())
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested tables by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
