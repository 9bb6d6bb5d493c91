"""A training and its run folder: when it is saved, and what it goes on from."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from spikeloom.config.schema import Recipe
from spikeloom.data.base import DataSet
from spikeloom.errors import CheckpointError, ConfigError, RunError
from spikeloom.evaluation.metrics import Score
from spikeloom.methods import catalog
from spikeloom.processes import distributed
from spikeloom.run.checkpoint import Checkpoints, State, evaluated_weights, recipe_difference
from spikeloom.run.folder import RunFolder, environment
from spikeloom.training.position import Position, TrainedParts, put_back, take
from spikeloom.training.start import fingerprint


class Saver:
    """Saves a training of `recipe` into `run`, and puts it back.

    `text` is the recipe as TOML. `reschedule`: checkpoints of another schedule are of this run too.
    """

    def __init__(self, recipe: Recipe, text: str, run: RunFolder, reschedule: bool = False) -> None:
        self.run, self.recipe, self.text = run, recipe, text
        self.checkpoints = Checkpoints(run.checkpoints)
        self._free = ("schedule",) if reschedule else ()
        self.note(Position())

    def note(self, position: Position) -> None:
        """Says that what is saved stands at `position` now."""
        self.saved_at, self.saved_step = time.monotonic(), position.global_step

    def due(self, position: Position) -> bool:
        """Whether a checkpoint is due after this step, asked by all processes."""
        config = self.recipe.checkpoint
        every = config.every_steps
        due = every is not None and position.global_step % every == 0
        if config.every_minutes is not None:
            waited = time.monotonic() - self.saved_at
            due |= distributed.any_of(waited >= 60 * config.every_minutes)
        return due

    def save(
        self,
        position: Position,
        parts: TrainedParts,
        sums: dict[str, Tensor],
        flush: Callable[[], None],
    ) -> None:
        """Writes a checkpoint of this instant, `sums` being those of the epoch; `flush` brings the
        record to the disk first."""

        def write() -> None:
            with self.run.storage_errors():
                flush()
                size = self.run.metrics.stat().st_size
                self.checkpoints.save(take(self.text, position, parts, sums, size))

        distributed.from_main(write)
        self.note(position)

    def keep_best(self, path: Path, parts: TrainedParts) -> None:
        """The checkpoint at `path` is of the best epoch and of this instant: it gets that name too,
        and its weights are written as plain weights."""
        self.checkpoints.keep_best(path)
        states = {name: callback.state() for name, callback in parts.callbacks.items()}
        self.run.write_weights(evaluated_weights(parts.model.state_dict(), states))

    def restore(
        self, steps: int, parts: TrainedParts, score: Score, tell: Callable[[str], None]
    ) -> tuple[Path, Position] | None:
        """Makes `parts` and `score` stand where the newest usable checkpoint was taken; None if
        there is none yet. metrics.jsonl is cut back to there.

        Args:
            steps: Optimizer steps of an epoch.
            tell: Receives a line for each checkpoint that is passed over.

        Raises:
            CheckpointError: there are checkpoints, and none is one of this recipe.
            RunError: the run has gone beyond the recipe's epochs, or its folder cannot be written.
        """
        newest = distributed.from_main(lambda: self._newest(steps, tell))
        if newest is None:
            return None
        path, state = newest
        position = put_back(path, state, parts)
        try:
            score.load(state["sums"])
        except (LookupError, RuntimeError) as error:
            raise CheckpointError(f"{path} holds no sums of an epoch: train again") from error
        return path, position

    def keep_recipe(self) -> None:
        """Stores what changed in the recipe since the run began: its number of epochs, say."""
        with self.run.storage_errors():
            if self.run.recipe.read_text() != self.text:
                self.run.write_recipe(self.text)

    def changes(self, device: torch.device, data: DataSet) -> Iterator[str]:
        """Lines about what differs from when the run began: versions, machine, the data set."""
        for line in self.run.differences(environment(device)):
            yield f"{line}; the last bits of the numbers may differ"
        then, now = self.run.fact("data"), fingerprint(data)
        if then not in (None, now):
            yield (
                f"warning: the data set is not the one that this run began with (fingerprint "
                f"{then} then, {now} now): figures before and after are of different samples"
            )

    def _newest(self, steps: int, tell: Callable[[str], None]) -> tuple[Path, State] | None:
        def check(path: Path, state: State) -> None:
            if state["recipe"] == self.text:
                return
            try:
                theirs = catalog.parse(state["recipe"], str(path))
            except ConfigError as error:
                raise CheckpointError(f"the recipe in {path} cannot be read: {error}") from error
            ours = self.recipe.to_dict()
            difference = recipe_difference(theirs.to_dict(), ours, self._free)
            if difference is not None:
                raise CheckpointError(f"{path} is of another recipe: {difference}")
            if state["step"] > steps:
                raise CheckpointError(f"{path}: step {state['step']} of an epoch of {steps}")

        with self.run.storage_errors():
            newest = self.checkpoints.newest(check, tell)
            state = None if newest is None else newest[1]
            epochs, done = self.recipe.training.epochs, 0 if state is None else state["epoch"]
            evaluated = state is not None and state["best"] is not None
            if epochs < done or (epochs == done and not evaluated):
                raise RunError(
                    f"{self.run.path} has done {done} epochs already: "
                    f"give more than training.epochs = {epochs}"
                )
            self.run.cut_metrics(0 if state is None else state["metrics_bytes"])
        return newest
