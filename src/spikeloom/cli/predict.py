"""`spikeloom predict`: classes of a user's own files."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikeloom import files
from spikeloom.cli import options

if TYPE_CHECKING:
    from spikeloom.prediction import Prediction

FEW = 16  # files that go through uncompiled neurons


def predict(
    run: Annotated[str, typer.Argument(help="Run folder, its weights.safetensors, or zoo/NAME.")],
    samples: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Files, or folders of them; - is standard input."),
    ],
    table: Annotated[
        Path | None, typer.Option("--csv", help="Write a table with all scores to this file.")
    ] = None,
    checkpoint: options.Checkpoint = "best",
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Samples computed together.")
    ] = 64,
    device: options.Device = "auto",
) -> None:
    """Name the class of images, recordings, sounds, or arrays of your own.

    They are decoded, cut to size and normalised as in training; the training data are not needed.
    """
    from spikeloom.prediction import load

    # Compiling neurons costs seconds, a few files through their eager steps cost milliseconds.
    few = len(samples) <= FEW and not any(Path(item).is_dir() for item in samples)
    network = load(run, checkpoint, device=device, backend="eager" if few else None)
    given = [sys.stdin.buffer.read() if item == "-" else item for item in samples]
    predictions = network.predictions(given, batch_size=batch_size)
    if table is None:
        for answer in predictions:
            fired = "" if answer.first_spike is None else f"  first spike in {answer.first_spike}"
            if answer.name is None:
                text = "  ".join(f"{name} {value:.5g}" for name, value in answer.scores.items())
            else:
                text = f"{answer.name}  score {answer.scores[answer.name]:.4g}"
            typer.echo(f"{answer.source}  {text}{fired}")
        return
    answers = list(predictions)
    files.deliver_csv(table, _rows(answers))
    typer.echo(f"{table}: {len(answers):,} predictions")


def _rows(answers: "Sequence[Prediction]") -> "Iterator[Sequence[object]]":
    """A row for each answer, with a head of what their readout gives."""
    outputs = [
        name if answer.name is None else f"score {name}"
        for answer in answers[:1]
        for name in answer.scores
    ]
    yield ["file", "class", "label", "first spike", *outputs]
    for answer in answers:
        about = (answer.source, answer.name or "", answer.label, answer.first_spike)
        yield [*about, *answer.scores.values()]
