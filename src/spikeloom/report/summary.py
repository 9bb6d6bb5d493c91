"""One row of figures for each run, and what several seeds of one recipe say together."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from spikeloom import files
from spikeloom.analysis.statistics import mean_and_deviation, wilson
from spikeloom.errors import RunError
from spikeloom.report.examination import SAMPLES, Examination
from spikeloom.report.examine import examine
from spikeloom.run.reading import RunRecord, read

Row = dict[str, Any]

APART = ("title", "notes", "origin", "label", "source", "seed")
"""Keys of a recipe that say nothing about how a run was trained, or are shown elsewhere."""


def compare(folders: Sequence[Path | str], *, samples: int = SAMPLES) -> list[Row]:
    """One row for each run folder, as `spikeloom compare` prints it: `pandas.DataFrame(rows)`.

    `run`, `method`, `data`, `seed`, `protocol`, `figure` ("accuracy", or "r2" of a regression),
    `accuracy` with the interval `low` to `high` (fractions; Wilson, 95 %, of the test samples),
    `published` (fraction), `epochs`, `parameters`, `T`; per test sample `spikes_per_sample`,
    `accumulates`, `multiplies`, `energy_nj`; `memory_mb`: the most that the training process held;
    `ms_per_step`: of training, evaluations included; `latency_ms`: of one sample at a time, where
    `eval --latency` measured it; `seconds`, `finished`; `note` says why figures are missing (None).

    Args:
        folders: Run folders.
        samples: How many test samples each trained network sees at most.

    Raises:
        RunError: no folder was given, or one is not a run folder.
    """
    return summaries(folders, samples)[1]


def summaries(
    folders: Sequence[Path | str], samples: int = SAMPLES
) -> tuple[list[RunRecord], list[Row]]:
    """The records of the runs, and a row for each; errors as `compare`."""
    runs, examinations = examined(folders, samples)
    return runs, list(map(summary, runs, examinations))


def examined(
    folders: Sequence[Path | str], samples: int = SAMPLES
) -> tuple[list[RunRecord], list[Examination | str]]:
    """The records of the runs, and what their networks showed; errors as `compare`."""
    folders = [folders] if isinstance(folders, str | Path) else folders
    if not folders:
        raise RunError("no run folder given: name at least one, as in runs/plif-digits/1")
    runs = [read(Path(folder)) for folder in folders]
    return runs, [examine(run, samples) for run in runs]


def interval(run: RunRecord) -> tuple[float, float] | None:
    """That of 95 % around the accuracy of the run; None where there is none."""
    if run.best is None or not run.test_samples or run.figure != "accuracy":
        return None
    return wilson(run.best.test_accuracy, run.test_samples)


def summary(run: RunRecord, examination: Examination | str) -> Row:
    """The figures of one run; `examination` is what its network showed, or why it could not."""
    from spikeloom.evaluation.speed import stored

    speed = stored(run.folder)
    best = run.best
    low, high = interval(run) or (None, None)
    steps = max((epoch.step for epoch in run.epochs), default=0)
    row: Row = {
        "run": run.name,
        "method": str(run.setting("method", "?")),
        "data": str(run.setting("data.name", "?")),
        "seed": run.setting("seed"),
        "protocol": run.protocol,
        "figure": run.figure,
        "accuracy": None if best is None else best.test_accuracy,
        "low": low,
        "high": high,
        "published": None if run.published is None else run.published / 100,
        "epoch": None if best is None else best.epoch,
        "epochs": len(run.epochs),
        "test_samples": run.test_samples,
        "parameters": run.start.parameters,
        "T": run.time_steps,
        "spikes_per_sample": None,
        "accumulates": None,
        "multiplies": None,
        "energy_nj": None,
        "memory_mb": run.end.peak_memory_mb if run.end else None,
        "ms_per_step": 1000 * sum(e.seconds for e in run.epochs) / steps if steps else None,
        "latency_ms": None if speed is None else speed.median_ms,
        "seconds": run.seconds,
        "finished": run.finished,
        "note": examination if isinstance(examination, str) else "",
    }
    if isinstance(examination, Examination):
        row |= {
            "spikes_per_sample": sum(examination.spikes.values()),
            "accumulates": examination.operations.accumulates,
            "multiplies": examination.operations.multiplies,
            "energy_nj": examination.operations.picojoule / 1000,
        }
    return row


@dataclass(frozen=True)
class Group:
    """Runs of one recipe that differ in their seed only."""

    name: str
    rows: tuple[Row, ...]

    @staticmethod
    def key_of(run: RunRecord) -> str:
        """Equal for runs that differ in nothing but their seed and their name."""
        return repr([(key, value) for key, value in run.recipe.items() if key not in APART])

    @property
    def accuracies(self) -> dict[Any, float]:
        """Accuracy by seed."""
        return {row["seed"]: row["accuracy"] for row in self.rows if row["accuracy"] is not None}

    @property
    def spread(self) -> tuple[float | None, float | None]:
        """Mean and deviation of the accuracies, as far as there are any."""
        values = list(self.accuracies.values())
        return mean_and_deviation(values) if values else (None, None)


def grouped(runs: Sequence[RunRecord], rows: Sequence[Row]) -> list[Group]:
    """The runs by recipe, seeds together, in the order of their first."""
    members: dict[str, list[tuple[RunRecord, Row]]] = {}
    for run, row in zip(runs, rows, strict=True):
        members.setdefault(Group.key_of(run), []).append((run, row))
    return [Group(pairs[0][0].name, tuple(row for _, row in pairs)) for pairs in members.values()]


def paired_differences(groups: Sequence[Group]) -> list[Row]:
    """For every two groups with two seeds in common or more: the mean of the differences in
    accuracy seed by seed, and their deviation.
    """
    pairs: list[Row] = []
    for first, second in combinations(groups, 2):
        base, other = first.accuracies, second.accuracies
        apart = [other[seed] - base[seed] for seed in base if seed in other]
        if len(apart) > 1:
            mean, deviation = mean_and_deviation(apart)
            row = {"first": first.name, "second": second.name, "seeds": len(apart)}
            pairs.append(row | {"mean": mean, "deviation": deviation})
    return pairs


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """The rows as a CSV file; raises RunError if it cannot be written."""
    try:
        files.deliver_csv(path, [list(rows[0]), *(row.values() for row in rows)])
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}; give another file") from error
