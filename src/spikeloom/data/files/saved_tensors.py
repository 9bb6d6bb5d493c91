"""What `torch.save` wrote, read without running anything in it.

`torch.load` with `weights_only` runs no code of the file. A zip archive (every file since PyTorch
1.6) is refused where its records are compressed or claim more than the file has: a small file
cannot unfold to a large one.
"""

import warnings
import zipfile
from pathlib import Path
from typing import BinaryIO

import torch

from spikeloom.data.files.archive import first_line


class RefusedError(Exception):
    """The file is not one that torch.save wrote, or holds more than tensors and builtins."""


def load(file: Path | BinaryIO) -> object:
    """The tensors and builtins in `file`, on the CPU.

    Raises:
        RefusedError: it cannot be read, or not without trust; the text says why, in one line.
        OSError: the operating system cannot read it.
    """
    if isinstance(file, Path):
        with open(file, "rb") as opened:
            return load(opened)
    size = file.seek(0, 2)
    file.seek(0)
    try:
        if file.read(4) == b"PK\3\4":
            with zipfile.ZipFile(file) as archive:
                records = archive.infolist()
            if any(record.compress_type != zipfile.ZIP_STORED for record in records):
                raise RefusedError("its records are compressed")
            if sum(record.file_size for record in records) > size:
                raise RefusedError("its records claim more bytes than it has")
        file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols that it may refuse
            return torch.load(file, map_location="cpu", weights_only=True)
    except RefusedError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its numbers lead to
        raise RefusedError(first_line(error)) from error
