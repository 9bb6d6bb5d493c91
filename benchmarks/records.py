"""Records of finished runs, small enough to be committed: what `docs/results.md` is made of.

    python -m benchmarks record RUN NAME

keeps of a run folder the recipe without this machine's data root, what it ran on, the accuracies of
each epoch, and the end, in `benchmarks/records/NAME.json`; no weights.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from spikeloom import files
from spikeloom.config.schema import Recipe
from spikeloom.errors import RunError
from spikeloom.methods import catalog
from spikeloom.run import reading

FOLDER = Path(__file__).parent / "records"
FACTS = ("started", "python", "spikeloom", "torch", "numpy", "numba", "processor", "threads")


@dataclass(frozen=True)
class Kept:
    """One record. Accuracies are fractions; `epochs`: (epoch, test, validation or None)."""

    name: str
    recipe: Recipe
    command: str
    facts: dict[str, Any]
    train_samples: int
    test_samples: int
    epochs: tuple[tuple[int, float, float | None], ...]
    seconds: float
    notes: tuple[str, ...] = ()
    """What the run said of its data."""

    @property
    def length(self) -> int:
        """Epochs trained; the last one is always tested."""
        return self.epochs[-1][0] + 1

    @property
    def accuracy_a(self) -> float:
        """The highest test accuracy of any epoch."""
        return max(test for _, test, _ in self.epochs)

    @property
    def accuracy_b(self) -> float | None:
        """Test accuracy where the validation accuracy is best; None for a run without."""
        if self.recipe.protocol.name != "B":
            return None
        last = getattr(self.recipe.protocol, "validation", "") == "published"  # ties to the later
        ranked = [(val or 0.0, epoch if last else -epoch, test) for epoch, test, val in self.epochs]
        return max(ranked)[2]


def command_of(run: reading.RunRecord) -> str:
    """The command that began a run, without where its folder is and what else changes no figure."""
    arguments = run.command.partition(" train ")[2].replace(" --no-report", "")
    if not arguments:
        raise RunError(f"{run.folder}: environment.json does not say what command began it")
    if "/" in re.sub(r"\b[\w-]+/[\w-]+", "", arguments):
        raise RunError(f"{run.folder}: its command names a path of this machine: {arguments}")
    return f"spikeloom train {arguments}"


def keep(folder: Path, name: str) -> Path:
    """Writes the record of a finished run."""
    run = reading.read(folder)
    if run.end is None or run.end.seconds is None:
        raise RunError(f"{folder} is not finished: train it to its end first")
    recipe = files.parse_toml(run.recipe_text)
    recipe.get("data", {}).pop("root", None)
    path = FOLDER / f"{name}.json"
    content = {
        "command": command_of(run),
        "facts": {fact: run.environment[fact] for fact in FACTS},
        "train_samples": run.start.train_samples,
        "test_samples": run.start.test_samples,
        "seconds": round(run.end.seconds, 1),
        "notes": run.start.notes,
        "epochs": [
            [
                e.epoch,
                round(e.test.accuracy, 6),
                None if e.val is None else round(e.val.accuracy, 6),
            ]
            for e in run.epochs
            if e.test is not None
        ],
        "recipe": tomli_w.dumps(recipe),
    }
    lines = json.dumps(content, indent=1)
    lines = re.sub(r"\[\s+(\d+),\s+(\S+),\s+(\S+)\s+\]", r"[\1, \2, \3]", lines)
    files.write(path, lines + "\n")
    return path


def read(path: Path) -> Kept:
    """A committed record."""
    told = json.loads(path.read_text())
    return Kept(
        name=path.stem,
        recipe=catalog.parse(told["recipe"], str(path)),
        command=told["command"],
        facts=told["facts"],
        train_samples=told["train_samples"],
        test_samples=told["test_samples"],
        epochs=tuple((epoch, test, val) for epoch, test, val in told["epochs"]),
        seconds=told["seconds"],
        notes=tuple(told.get("notes", ())),
    )


def kept() -> list[Kept]:
    """All of them, by name."""
    return [read(path) for path in sorted(FOLDER.glob("*.json"))]
