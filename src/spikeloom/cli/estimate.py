"""What `spikeloom train --dry-run` prints."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from spikeloom.units import duration, size

if TYPE_CHECKING:
    from spikeloom.training import Estimate


def print_estimate(found: "Estimate", place: Path) -> None:
    """The estimate in words; `place` is where the run folder would be."""
    for name, value in _lines(found, place):
        typer.echo(f"{name:<17}{value}")


def _lines(found: "Estimate", place: Path) -> list[tuple[str, str]]:
    memory = "not told by this system" if found.peak_memory is None else size(found.peak_memory)
    if found.memory is not None:
        memory += f" of {size(found.memory)}"
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return [
        ("parameters", f"{found.parameters:,}"),
        ("device", found.device),
        ("peak memory", memory),
        (
            "time per epoch",
            f"{duration(found.epoch_seconds)}: {found.steps_per_epoch} steps of "
            f"{1000 * found.step_seconds:.3g} ms, evaluation "
            f"{duration(found.evaluation_seconds)}",
        ),
        ("time in all", f"{duration(found.seconds)} for {found.epochs} epochs"),
        ("checkpoint", size(found.checkpoint)),
        ("disk space", f"{size(found.disk)} at most, {size(free)} free in {place.resolve()}"),
    ]
