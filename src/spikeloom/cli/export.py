"""`spikeloom export`: a trained network as a file for another runtime."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    run: Annotated[str, typer.Argument(help="Run folder, or its weights.safetensors.")],
    to: Annotated[
        Literal["onnx", "torch", "c", "nir", "safetensors"], typer.Option(help="What to write.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The file; default: METHOD-DATA in this folder.")
    ] = None,
    form: Annotated[
        Literal["unrolled", "loop", "step"] | None,
        typer.Option(help="All time steps one by one, a loop (onnx), or one step with states."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace files that are there.")] = False,
    dt: Annotated[float, typer.Option(min=0, help="NIR: seconds of a time step.")] = 1e-3,
    allow_lossy: Annotated[
        bool, typer.Option("--allow-lossy", help="NIR: write what it can hold, and say what not.")
    ] = False,
) -> None:
    """Write a trained network for ONNX, torch.export, C, or NIR, with a model card beside it."""
    from spikeloom.exchange import export

    result = export(run, to, out, form=form, overwrite=overwrite, dt=dt, allow_lossy=allow_lossy)
    for file in result.files:
        typer.echo(f"{file}  {file.stat().st_size:,} bytes")
    typer.echo(f"checked  {result.checked}")
