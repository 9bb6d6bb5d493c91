"""Beginning a run, continuing it, and making one of published weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from spikeloom.config.schema import Recipe
from spikeloom.errors import RunError
from spikeloom.evaluation.evaluation import on_this_machine
from spikeloom.methods import catalog
from spikeloom.processes import distributed
from spikeloom.processes.launch import processes
from spikeloom.run.checkpoint import Checkpoints, check_finite, read, recipe_difference
from spikeloom.run.device import choose_device, surroundings
from spikeloom.run.failures import explained
from spikeloom.run.folder import RunFolder
from spikeloom.training.journal import Journal
from spikeloom.training.position import RunResult
from spikeloom.training.start import create_run
from spikeloom.training.trainer import Trainer


def train(recipe: Recipe, folder: Path | str, *, console: Console | None = None) -> RunResult:
    """Trains `recipe` from the beginning into a new run folder.

    Args:
        recipe: What to train, from `methods.catalog.load_recipe`.
        folder: The run folder to create; it must not exist or be empty.
        console: Where progress is shown; standard output by default.

    Launched several times, by `torchrun` for example, the processes train together: see
    `launch.processes`.

    Raises:
        ConfigError, DataError: the recipe or its data cannot be used; no folder was made.
        RunError: the folder exists already.
        NonFiniteError: the loss became NaN or infinite.
        CheckpointError: there is no room for a checkpoint.
        OutOfMemoryError: the memory does not hold a step.
    """
    with processes(), _on_device(recipe) as device:
        run = Path(folder)
        trainer = Trainer(recipe, device, console or Console())
        trainer.load_start()  # no folder is made where it cannot be read
        new = (run, trainer.text, device, trainer.data)
        distributed.from_main(lambda: create_run(*new) and None)
        Journal.of(recipe, trainer.console).message(f"run folder {run}")
        try:
            return trainer.fit(RunFolder(run))
        except Exception:
            if not trainer.position.global_step and distributed.is_main():
                RunFolder(run).discard()
            raise


def resume(
    folder: Path | str,
    *,
    epochs: int | None = None,
    root: Path | str | None = None,
    schedule: Literal["keep", "stretch", "restart"] = "keep",
    overrides: Sequence[str] = (),
    console: Console | None = None,
) -> RunResult:
    """Continues the run in `folder` from its newest whole checkpoint.

    The result equals that of a run which was never interrupted. A finished run answers its result.

    Args:
        folder: A run folder.
        epochs: Train until this many epochs instead of the recipe's; stored in the folder.
        root: Where the data are on this machine, if not where the recipe says.
        schedule: With other epochs, what becomes of the learning rate: "keep" goes on with the
            recipe's, "stretch" scales its lengths to all the epochs, "restart" begins it anew at
            this epoch, scaled to those that are left.
        overrides: `key=value`, of keys that change no number of the training done so far.
        console: Where progress is shown; standard output by default.

    Raises:
        RunError: `folder` is no run folder, another process trains in it, or it has done more
            than `epochs` already.
        CheckpointError: there are checkpoints, and none can be used.
    """
    run = RunFolder(Path(folder))
    with processes():
        text = distributed.from_main(lambda: RunFolder.open(run.path).recipe.read_text())
        before = catalog.parse(text, str(run.recipe))
        if epochs is not None:
            overrides = [*overrides, f"training.epochs={epochs}"]
        recipe = catalog.parse(text, str(run.recipe), overrides)
        difference = recipe_difference(before.to_dict(), recipe.to_dict())
        if difference is not None:
            key = difference.partition(" ")[0]
            raise RunError(
                f"{key} cannot change in a run that has begun ({difference.split(', ')[0]}): "
                f"`spikeloom train RECIPE start={run.path}` begins a new one from its weights"
            )
        if schedule != "keep":
            recipe = distributed.from_main(lambda: _rescheduled(run, before, recipe, schedule))
        recipe = on_this_machine(recipe, root)
        with _on_device(recipe) as device:
            trainer = Trainer(recipe, device, console or Console(), reschedule=schedule != "keep")
            return trainer.fit(run)


def _rescheduled(run: RunFolder, before: Recipe, recipe: Recipe, mode: str) -> Recipe:
    """`recipe` with the schedule of `before` for its other number of epochs."""
    old, new = before.training.epochs, recipe.training.epochs
    if old == new:
        raise RunError(f"schedule = {mode}: give other epochs than the {old} of {run.path}")
    begin = before.schedule.begin
    if mode == "restart":
        done = read(Checkpoints(run.checkpoints).last)["epoch"]
        factor, begin = (new - done) / max(1, old - begin), done
    else:
        factor = (new - begin) / max(1, old - begin)
    schedule = before.schedule.stretched(factor).model_copy(update={"begin": begin})
    return recipe.model_copy(update={"schedule": schedule})


def adopt(
    recipe: Recipe, file: Path | str, folder: Path | str, *, console: Console | None = None
) -> None:
    """A new run folder with the weights of a checkpoint that the method's authors published.

    It is a run before its first step: `evaluate` measures it, `resume` trains on from there.

    Raises:
        CheckpointError: the file does not fit the recipe's network; no folder was made.
        ConfigError, DataError, RunError: as `train`.
    """
    with _on_device(recipe) as device:
        trainer = Trainer(recipe, device, console or Console())
        method = catalog.methods()[recipe.method]
        weights = method.read_checkpoint(Path(file), trainer.classifier)
        check_finite(weights)
        run = create_run(Path(folder), trainer.text, device, trainer.data)
        trainer.enter(run)
        with run.storage_errors(), run.locked():
            trainer.classifier.load_state_dict(weights)
            trainer.journal.open(run)
            try:
                trainer.tell_start()
                trainer.save()
                trainer.saver.keep_best(trainer.parts)
            finally:
                trainer.journal.close()


@contextmanager
def _on_device(recipe: Recipe) -> Iterator[torch.device]:
    """What surrounds a run on the device of its recipe."""
    device = distributed.together(choose_device)(recipe.training.device)
    # explained last: PyTorch tells of a dead worker again, also while a run is left
    with explained(recipe, device), surroundings(recipe.training, device):
        yield device
