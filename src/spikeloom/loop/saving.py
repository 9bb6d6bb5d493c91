"""A loop of one's own and its run folder: what it is saved as, and what it goes on from."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikeloom import files
from spikeloom.data.base import DataSet
from spikeloom.errors import CheckpointError, ConfigError
from spikeloom.loop import description
from spikeloom.run.checkpoint import Checkpoints, State, recipe_difference
from spikeloom.run.folder import RunFolder, environment
from spikeloom.run.inputs import Inputs
from spikeloom.training.position import Position, TrainedParts, put_back, take
from spikeloom.training.start import fingerprint


class LoopSaver:
    """Saves `parts` into a run folder, and puts them back. `about` is what `describe` says."""

    def __init__(
        self, folder: Path, about: Mapping[str, Any], parts: TrainedParts, data: DataSet | None
    ) -> None:
        self.run = RunFolder(folder)
        self.checkpoints = Checkpoints(self.run.checkpoints)
        self._about, self._parts, self._data = about, parts, data
        self._text = description.to_toml(about, None)
        self.saved_at = time.monotonic()

    def create(self, device: torch.device) -> None:
        """The run folder, if there is none yet."""
        if self.run.recipe.is_file():
            return
        facts, inputs = environment(device), ""
        if self._data is not None:
            facts |= {"data": fingerprint(self._data)}
            inputs = Inputs.of(self._data).to_json()
        RunFolder.create(self.run.path, self._text, facts, inputs)

    def plan(self, epochs: int) -> None:
        """Stores how many epochs there are to be."""
        self._text = description.to_toml(self._about, epochs)
        self.run.write_recipe(self._text)

    def save(self, position: Position, sums: dict[str, Tensor]) -> None:
        """Writes a checkpoint of this instant; the record is on the disk."""
        size = self.run.metrics.stat().st_size
        self.checkpoints.save(take(self._text, position, self._parts, sums, size))
        self.saved_at = time.monotonic()

    def keep_best(self, path: Path) -> None:
        """The checkpoint at `path`, of this instant, is of the best epoch."""
        self.checkpoints.keep_best(path)
        self.run.write_weights(self._parts.model.state_dict())

    def restore(
        self, device: torch.device, tell: Callable[[str], None]
    ) -> tuple[Position, dict[str, Tensor]]:
        """Makes the parts stand where the newest usable checkpoint was taken, and cuts the record
        back to there; the position, and the sums of its epoch.

        Raises:
            CheckpointError: there are checkpoints, and none is of this loop.
        """
        found = self.checkpoints.newest(self._check, tell)
        self.run.cut_metrics(0 if found is None else found[1]["metrics_bytes"])
        if found is None:
            return Position(), {}
        path, state = found
        position = put_back(path, state, self._parts)
        tell(f"going on from {path.name}: epoch {position.epoch}, step {position.step}")
        for line in self.run.differences(environment(device)):
            tell(f"{line}; the last bits of the numbers may differ")
        then = self.run.fact("data")
        if self._data is not None and then not in (None, fingerprint(self._data)):
            tell("warning: the data set is not the one that this run began with")
        best = position.best
        if best is not None and not position.step and best.epoch == position.epoch - 1:
            self.keep_best(path)  # it may have been killed between the checkpoint and this
        return position, state["sums"]

    def _check(self, path: Path, state: State) -> None:
        try:
            theirs = files.parse_toml(state["recipe"])
        except ConfigError as error:
            raise CheckpointError(f"the description in {path} cannot be read: {error}") from error
        difference = recipe_difference(theirs, dict(self._about))
        if difference is not None:
            change = difference.replace("in recipe.toml", "here")
            raise CheckpointError(f"{path} is of another experiment: {change}")
