"""Safetensors files: tensors by name, and what was noted beside them. Nothing in one can run."""

from pathlib import Path

import safetensors
from torch import Tensor

from spikeloom.errors import CheckpointError


def read(path: Path, label: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of the file, on the CPU, and its notes.

    Raises:
        CheckpointError: there is none, or it is damaged; the text begins with `label`.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{label}{path} does not exist: give a run folder with a finished epoch, or a file "
            "that was written from one"
        ) from error
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{label}{path} cannot be read, it is damaged ({error}): write it again, or give a run "
            "folder"
        ) from error
