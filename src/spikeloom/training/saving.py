"""A training and its run folder: when it is saved, and what it goes on from."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from spikeloom.config.schema import CheckpointConfig, Recipe
from spikeloom.data.base import DataSet
from spikeloom.errors import CheckpointError, ConfigError, RunError
from spikeloom.evaluation.metrics import Score
from spikeloom.methods import catalog
from spikeloom.processes import distributed
from spikeloom.run.checkpoint import Checkpoints, State, evaluated_weights, recipe_difference
from spikeloom.run.folder import RunFolder, environment
from spikeloom.training.journal import Journal
from spikeloom.training.position import Position, TrainedParts, put_back, take
from spikeloom.training.start import fingerprint

Check = Callable[[Path, State], None]
"""Raises CheckpointError for a checkpoint, at a path, that is none of this training."""


class Saver:
    """Saves a training into `run`, and puts it back.

    `text` is what its recipe.toml holds, `config` says when a checkpoint is due inside an epoch;
    `journal` is on the disk before a checkpoint, and says what is passed over.
    """

    def __init__(
        self, run: RunFolder, text: str, config: CheckpointConfig, check: Check, journal: Journal
    ) -> None:
        self.run, self.text, self.journal = run, text, journal
        self.checkpoints = Checkpoints(run.checkpoints)
        self._config, self._check = config, check
        self.note(Position())

    def note(self, position: Position) -> None:
        """Says that what is saved stands at `position` now."""
        self.saved_at, self.saved_step = time.monotonic(), position.global_step

    @property
    def good(self) -> str:
        """Where a training that went wrong can go on from, in words."""
        last = self.checkpoints.last
        return f"the last good checkpoint is {last}" if last.exists() else "no checkpoint yet"

    def due(self, position: Position) -> bool:
        """Whether a checkpoint is due after this step, asked by all processes."""
        every = self._config.every_steps
        due = every is not None and position.global_step % every == 0
        if self._config.every_minutes is not None:
            waited = time.monotonic() - self.saved_at
            due |= distributed.any_of(waited >= 60 * self._config.every_minutes)
        return due

    def save(self, position: Position, parts: TrainedParts, sums: dict[str, Tensor]) -> None:
        """Writes a checkpoint of this instant, `sums` being those of the epoch."""

        def write() -> None:
            with self.run.storage_errors():
                self.journal.flush()
                size = self.run.metrics.stat().st_size
                self.checkpoints.save(take(self.text, position, parts, sums, size))

        distributed.from_main(write)
        self.note(position)

    def keep_best(self, parts: TrainedParts, path: Path | None = None) -> None:
        """The checkpoint at `path` (the last) is of the best epoch and of this instant: it gets
        that name too, and its weights are written as plain weights."""

        def keep() -> None:
            self.checkpoints.keep_best(path or self.checkpoints.last)
            states = {name: callback.state() for name, callback in parts.callbacks.items()}
            self.run.write_weights(evaluated_weights(parts.model.state_dict(), states))

        distributed.from_main(keep)

    def restore(
        self,
        parts: TrainedParts,
        device: torch.device,
        data: DataSet | None,
        steps: int | None = None,
    ) -> tuple[Position, dict[str, Tensor]] | None:
        """Makes `parts` stand where the newest usable checkpoint was taken, and cuts the record
        back to there; the position, and the sums of its epoch. None if there is no checkpoint yet.

        Args:
            data: What it is trained on, if that is known.
            steps: Optimizer steps of an epoch, if they are known.

        Raises:
            CheckpointError: there are checkpoints, and none is one of this training.
            RunError: the folder cannot be written, or the run has another number of processes.
        """
        tell = self.journal.message
        newest = distributed.from_main(self._newest)
        if newest is None:
            return None
        path, state = newest
        position = put_back(path, state, parts)
        of = "" if steps is None else f" of {steps}"
        tell(f"going on from {path.name}: epoch {position.epoch}, step {position.step}{of}")
        for line in self._changes(device, data) if distributed.is_main() else ():
            tell(line)
        best = position.best
        if best is not None and not position.step and best.epoch == position.epoch - 1:
            self.keep_best(parts, path)  # it may have been killed between the checkpoint and this
        return position, state["sums"]

    def load_sums(self, score: Score, sums: dict[str, Tensor]) -> None:
        """Goes on from the `sums` of a checkpoint."""
        try:
            score.load(sums)
        except (LookupError, RuntimeError) as error:
            raise CheckpointError(
                f"{self.checkpoints.last} holds no sums of an epoch of this network: train again "
                "into another folder"
            ) from error

    def keep_recipe(self, text: str) -> None:
        """Stores what changed in the recipe since the run began: its number of epochs, say."""
        self.text = text
        with self.run.storage_errors():
            if self.run.recipe.read_text() != text:
                self.run.write_recipe(text)

    def _newest(self) -> tuple[Path, State] | None:
        with self.run.storage_errors():
            newest = self.checkpoints.newest(self._check, self.journal.message)
            self.run.cut_metrics(0 if newest is None else newest[1]["metrics_bytes"])
        return newest

    def _changes(self, device: torch.device, data: DataSet | None) -> Iterator[str]:
        """Lines about what differs from when the run began: versions, machine, the data set."""
        for line in self.run.differences(environment(device)):
            yield f"{line}; the last bits of the numbers may differ"
        then, now = self.run.fact("data"), None if data is None else fingerprint(data)
        if None not in (then, now) and then != now:
            yield (
                f"warning: the data set is not the one that this run began with (fingerprint "
                f"{then} then, {now} now): figures before and after are of different samples"
            )


def of_recipe(recipe: Recipe, text: str, steps: int, folder: Path, *, reschedule: bool) -> Check:
    """Accepts checkpoints of `recipe`, which is `text` as TOML, with `steps` an epoch; if
    `reschedule`, of another schedule too. RunError: the run in `folder` has gone beyond its epochs.
    """
    free = ("schedule",) if reschedule else ()

    def check(path: Path, state: State) -> None:
        if state["recipe"] != text:
            try:
                theirs = catalog.parse(state["recipe"], str(path))
            except ConfigError as error:
                raise CheckpointError(f"the recipe in {path} cannot be read: {error}") from error
            difference = recipe_difference(theirs.to_dict(), recipe.to_dict(), free)
            if difference is not None:
                raise CheckpointError(f"{path} is of another recipe: {difference}")
        if state["step"] > steps:
            raise CheckpointError(f"{path}: step {state['step']} of an epoch of {steps}")
        epochs, done = recipe.training.epochs, state["epoch"]
        if epochs < done or (epochs == done and state["best"] is None):
            raise RunError(
                f"{folder} has done {done} epochs already: give more than training.epochs = "
                f"{epochs}"
            )

    return check
