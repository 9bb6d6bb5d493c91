"""The folder of a new run: the one that was asked for, or the next number."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spikeloom.errors import RunError
from spikeloom.processes.distributed import from_main, is_main

RUNS = Path("runs")


def runs_of(origin: str) -> Path:
    """Where the runs of a recipe are, "plif/mnist" for example."""
    return RUNS / origin.replace("/", "-").lstrip(".")  # ".." leads elsewhere


@contextmanager
def new_folder(given: Path | None, parent: Path) -> Iterator[Path]:
    """The folder that was given, or a new numbered one in `parent`, removed if it stays empty.

    It is the same one in all processes that train together: the main one chooses.
    """
    if given is not None:
        yield given
        return
    folder = from_main(lambda: _claim_number(parent))
    try:
        yield folder
    finally:
        if is_main() and not any(folder.iterdir()):
            folder.rmdir()


def _claim_number(parent: Path) -> Path:
    """Make the next free numbered folder; two trainings that start together get two."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        number = 1 + max(
            (int(run.name) for run in parent.iterdir() if run.name.isdigit()), default=0
        )
        while True:
            try:
                (parent / str(number)).mkdir()
                return parent / str(number)
            except FileExistsError:
                number += 1
    except OSError as error:
        raise RunError(f"cannot create a run folder in {parent}: {error.strerror}") from error
