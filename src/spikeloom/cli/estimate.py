"""What `spikeloom train --dry-run` prints."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from spikeloom.training import Estimate


def print_estimate(found: "Estimate", place: Path) -> None:
    """The estimate in words; `place` is where the run folder would be."""
    for name, value in _lines(found, place):
        typer.echo(f"{name:<17}{value}")


def _lines(found: "Estimate", place: Path) -> list[tuple[str, str]]:
    memory = "not told by this system" if found.peak_memory is None else _size(found.peak_memory)
    if found.memory is not None:
        memory += f" of {_size(found.memory)}"
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return [
        ("parameters", f"{found.parameters:,}"),
        ("device", found.device),
        ("peak memory", memory),
        (
            "time per epoch",
            f"{_duration(found.epoch_seconds)}: {found.steps_per_epoch} steps of "
            f"{1000 * found.step_seconds:.3g} ms, evaluation "
            f"{_duration(found.evaluation_seconds)}",
        ),
        ("time in all", f"{_duration(found.seconds)} for {found.epochs} epochs"),
        ("checkpoint", _size(found.checkpoint)),
        ("disk space", f"{_size(found.disk)} at most, {_size(free)} free in {place.resolve()}"),
    ]


def _size(size: int) -> str:
    """1234567 -> "1.23 MB"."""
    amount, unit = float(size), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.3g} {unit}" if amount < 1000 else f"{amount:,.0f} {unit}"


def _duration(seconds: float) -> str:
    """75 -> "1 min 15 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
