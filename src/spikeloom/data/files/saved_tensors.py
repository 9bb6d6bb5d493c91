"""What `torch.save` wrote, read without running anything in it and without believing its sizes.

torch.load with `weights_only` runs no code of the file. On top of it, before PyTorch sees a zip
archive (every file since PyTorch 1.6):

- records must be stored and not compressed, as torch.save does, and together be no larger than the
  file: a small file cannot unfold to a large one;
- the pickle in it may name nothing but dictionaries, tensors, and their storages: not all that
  `weights_only` allows, some of which takes as much memory as an argument says.

Older files have no such table of contents and are left to `weights_only` alone.
"""

import pickletools
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from pickle import UnpicklingError
from typing import BinaryIO

import torch

_NAMED = {
    "collections OrderedDict",
    "torch Size",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch.nn.parameter Parameter",
    "torch.storage UntypedStorage",
    # numpy's numbers, which older programs left among their results, come as these
    "_codecs encode",
}
_STORAGE = "Storage"
_LARGEST_MEMO = 1 << 24
_UNREADABLE = (
    RuntimeError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    OverflowError,
    RecursionError,
    MemoryError,
    ImportError,
    zlib.error,
    struct.error,
    zipfile.BadZipFile,
    NotImplementedError,
    UnpicklingError,
)


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
        try:
            _screen(file, size)
        except OSError as error:  # a seek to where nothing is
            raise ValueError(f"its table of contents is damaged: {error.strerror}") from error
        file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols that it may refuse
            return torch.load(file, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        text = str(error).strip() or type(error).__name__
        raise RefusedError(text.splitlines()[0][:200]) from error


def _screen(file: BinaryIO, size: int) -> None:
    if file.read(4) != b"PK\3\4":
        return
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise RefusedError("its records are compressed")
        if sum(record.file_size for record in records) > size:
            raise RefusedError("its records claim more bytes than it has")
        for record in records:
            if record.filename.endswith("data.pkl"):
                _screen_pickle(archive.read(record))


def _screen_pickle(data: bytes) -> None:
    for code, argument, _ in pickletools.genops(data):
        if code.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            allowed = str(argument) in _NAMED or (module == "torch" and name.endswith(_STORAGE))
            # a type, such as torch.float32, says only how bytes are read
            is_type = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
            if not allowed and not is_type:
                raise RefusedError(f"it names {str(argument)[:100]!r}, which is no tensor")
        elif code.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"):
            raise RefusedError(f"its pickle has the operation {code.name}")
        elif code.name in ("LONG_BINPUT", "PUT") and int(argument or 0) > _LARGEST_MEMO:
            raise RefusedError("its pickle remembers more than it holds")
