"""Whatever a user calls a sample, as raw samples one at a time.

Raw means what a data set's splits give: uint8 images `[C, H, W]`, frames `[T, *shape]`. An array
whose meaning could be doubted is refused with the shapes that are understood.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeloom.data.base import DataSpec
from spikeloom.data.files.archive import hidden
from spikeloom.errors import DataError

Read = Callable[[bytes, str], Tensor]
"""From a file's content and its name to one raw sample."""


def as_samples(
    source: Any, read: Read, spec: DataSpec, steps: int | None = None
) -> Iterator[tuple[str, Tensor]]:
    """(name, raw sample) of everything in `source`: files, folders, images, arrays, lists of them.

    `steps`: the time steps of frames, where they are known. Raises `DataError` for what is no
    sample of the shape in `spec`.
    """
    count = 0
    samples: Iterable[tuple[str, Tensor]]
    for item in _items(source):
        if isinstance(item, Path):
            samples = ((str(path), read(_content(path), str(path))) for path in _files(item))
        elif isinstance(item, bytes):
            samples = [("standard input", read(item, "standard input"))]
        else:
            rows = _rows(item, spec, steps, f"sample {count}")
            samples = [(f"sample {row}", sample) for row, sample in enumerate(rows, count)]
        for name, sample in samples:
            yield name, sample
            count += 1


def _items(source: Any) -> Iterator[Any]:
    if isinstance(source, str | os.PathLike):
        yield Path(source).expanduser()
    elif isinstance(source, list | tuple):
        for item in source:
            yield from _items(item)
    else:
        yield source


def _files(path: Path) -> list[Path]:
    """The file itself, or all files in a folder and the folders in it, in the order of names."""
    if not path.is_dir():
        return [path]
    files = sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and not any(hidden(part) for part in file.relative_to(path).parts)
    )
    if not files:
        raise DataError(f"{path} holds no files: give the files to predict, or their folder")
    return files


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): give a file") from error


def _rows(item: Any, spec: DataSpec, steps: int | None, name: str) -> list[Tensor]:
    """The samples in one array, tensor, or image of Pillow."""
    if not isinstance(item, Tensor):
        array = np.array(item)  # a copy: what is handed in may be read-only
        if array.dtype.kind not in "buif":
            raise DataError(
                f"{name} is a {type(item).__name__}: give a file, an image, an array, or a tensor"
            )
        item = torch.from_numpy(array)
    values = item.detach().cpu()
    if spec.kind == "events":
        return _frames(values, spec, steps, name)
    return list(_bytes(_images(values, spec, name), name))


def _images(values: Tensor, spec: DataSpec, name: str) -> Tensor:
    """`values` as `[N, C, H, W]`. Where two readings are possible the channels come first."""
    channels, height, width = spec.shape
    shape = tuple(values.shape)
    for axes in (shape, shape[1:]):
        batch = values.reshape(-1, *axes)
        if axes == (channels, height, width):
            return batch
        if axes == (height, width, channels):
            return batch.permute(0, 3, 1, 2)
        if axes == (height, width) and channels == 1:
            return batch[:, None]
    raise DataError(
        f"{name} has shape {list(shape)}: give {list(spec.shape)}, with a batch axis in front for "
        "several, or an image file, which is cut to size"
    )


def _bytes(batch: Tensor, name: str) -> Tensor:
    """Pixels as uint8, from whole numbers 0..255 or fractions 0.0..1.0."""
    if batch.dtype == torch.uint8:
        return batch
    fractions = batch.is_floating_point()
    low, high = (float(batch.min()), float(batch.max())) if batch.numel() else (0.0, 0.0)
    if not 0 <= low <= high <= (1 if fractions else 255):
        raise DataError(
            f"{name} has values from {low:g} to {high:g}: give pixels as whole numbers 0 to 255, "
            "or as fractions 0.0 to 1.0, before any normalisation"
        )
    return (batch * 255).round().to(torch.uint8) if fractions else batch.to(torch.uint8)


def _frames(values: Tensor, spec: DataSpec, steps: int | None, name: str) -> list[Tensor]:
    axes = len(spec.shape)
    fits = values.shape[-axes:] == spec.shape and (steps is None or values.shape[0] == steps)
    if fits and values.dim() == axes + 1:
        return [values]
    if fits and values.dim() == axes + 2:
        return list(values.unbind(1))
    shape = ", ".join(map(str, spec.shape))
    raise DataError(
        f"{name} has shape {list(values.shape)}: give frames [{steps or 'T'}, {shape}], or "
        f"[{steps or 'T'}, B, {shape}] for several; a recording or series in a file is brought to "
        "the time steps of the training"
    )
