"""Checkpoints that survive a crash at any instant, and that tell when they did not.

A checkpoint file is what `torch.save` writes, tensors and builtins only, followed by a trailer:

    <payload: a zip archive, also readable by torch.load(path, weights_only=True)>
    "\\nspikeloom checkpoint 1 sha256 " <64 hexadecimal digits of the payload> "\\n"

It is written to a temporary file in the same folder, flushed to the disk, and renamed, so that a
name always points to a whole file. A folder holds `last.pt`, `previous.pt` (the one before last),
and `best.pt`; a file under two names is stored once (hard link).
"""

import copy
import errno
import hashlib
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Annotated, Any, BinaryIO, cast

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor
from typing_extensions import TypedDict  # pydantic takes that of Python from 3.12 on

from spikeloom import files
from spikeloom.data.files import saved_tensors
from spikeloom.errors import CheckpointError, NonFiniteError
from spikeloom.run.reading import flatten

FORMAT = 1
_MARK = f"\nspikeloom checkpoint {FORMAT} sha256 ".encode()
_TRAILER = len(_MARK) + 64 + 1
_CHUNK = 1 << 20
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Keys that may differ between a checkpoint and the recipe that continues it: none of them changes
# a number that training computes before the last epoch.
_FREE_KEYS = (
    "title",
    "origin",
    "published",
    "notes",
    "data.root",
    "data.workers",
    "training.epochs",
    "checkpoint",
    "logging.tensorboard",
    "training.watch",
)


_Count = Annotated[int, Field(ge=0, lt=2**62)]
_Seconds = Annotated[float, Field(ge=0, lt=2**62)]


class State(TypedDict):
    """What a checkpoint holds; the learning rate and all random streams follow from the position.

    `processes`: how many trained together, each with its part of the batch. `epoch`, `step`: the
    next optimizer step to do, `step` counted within the epoch (it equals the number of steps of
    the epoch when only the evaluation is left); `global_step`: steps done.
    `gradients`: those carried into the next step, by parameter, if the recipe carries them.
    `sums`: the running sums of the unfinished epoch (`Score.state`). `best`, `confusion`: the best
    result so far and its test confusion, or None. `metrics_bytes`: length of metrics.jsonl when
    the checkpoint was written. `callbacks`: the state of each, by its place and kind. `idle`:
    parameters without a gradient in the last step of the epoch; `loss`: of the epoch before.
    """

    __pydantic_config__ = ConfigDict(  # type: ignore[misc] - read by pydantic
        strict=True, extra="forbid", arbitrary_types_allowed=True
    )

    format: _Count
    recipe: str
    processes: Annotated[_Count, Field(ge=1)]
    epoch: _Count
    step: _Count
    global_step: _Count
    model: dict[str, Tensor]
    optimizer: dict[Any, Any]
    scaler: dict[Any, Any]
    gradients: dict[str, Tensor]
    sums: dict[str, Tensor]
    epoch_seconds: _Seconds
    run_seconds: _Seconds
    cpu_seconds: _Seconds
    best: dict[str, Any] | None
    confusion: Tensor | None
    metrics_bytes: _Count
    callbacks: dict[str, Any]
    idle: list[str]
    loss: float | None


_STATE = TypeAdapter(State)
_ADDED = {"processes": 1, "callbacks": {}, "idle": [], "loss": None, "cpu_seconds": 0.0}
"""What checkpoints of earlier versions lack."""


class Checkpoints:
    """The checkpoints of one run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last = folder / "last.pt"
        self.previous = folder / "previous.pt"
        self.best = folder / "best.pt"

    def save(self, state: State) -> None:
        """Writes `last` and keeps the one before as `previous`.

        Raises:
            CheckpointError: there is no room for it; the checkpoints that exist are as before.
            NonFiniteError: a tensor in it is NaN or infinite.
        """
        check_finite(state)
        self.folder.mkdir(parents=True, exist_ok=True)
        with files.replacing(self.last) as temporary:
            write(temporary, state)
            if self.last.exists():
                files.link(self.last, self.previous)
        files.sync_folder(self.folder)

    def keep_best(self, path: Path) -> None:
        """Gives the checkpoint at `path` the name `best` too."""
        if path != self.best:
            files.link(path, self.best)
        files.sync_folder(self.folder)

    def newest(
        self, accept: Callable[[Path, State], None], tell: Callable[[str], None]
    ) -> tuple[Path, State] | None:
        """The newest checkpoint that is whole and that `accept` takes; None if there is none yet.

        A checkpoint that is refused is named through `tell` and set aside under the name
        `<name>.refused`, once a good one is found.

        Args:
            accept: Raises CheckpointError for a checkpoint that does not belong to this run.
            tell: Receives one line for each checkpoint that was passed over.

        Raises:
            CheckpointError: there are checkpoints, and none of them can be used.
        """
        refused: dict[Path, CheckpointError] = {}
        for path in (self.last, self.previous, self.best):
            if not path.exists():
                continue
            try:
                state = read(path)
                accept(path, state)
            except CheckpointError as error:
                refused[path] = error
                continue
            for bad, error in refused.items():
                tell(f"{error}; going on from {path.name}, epoch {state['epoch']}")
                os.replace(bad, bad.with_suffix(".refused"))
            return path, state
        if refused:
            reasons = "; ".join(str(error) for error in refused.values())
            raise CheckpointError(
                f"no checkpoint in {self.folder} can be used: {reasons}; "
                "train again into another folder"
            )
        return None


def write(path: Path, state: State) -> None:
    """Writes one checkpoint and flushes it to the disk. `path` is a temporary name.

    Raises:
        CheckpointError: the disk is full; `path` is gone again.
    """
    hashing = None
    try:
        with open(path, "wb") as file:
            hashing = _HashingFile(file)
            torch.save(dict(state), cast(IO[bytes], hashing))
            hashing.write(_MARK + hashing.digest().encode() + b"\n")
            if hashing.error is not None:
                raise hashing.error
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:  # also of closing the file, which tries to write what is left
        path.unlink(missing_ok=True)
        raise _no_room(path, 0 if hashing is None else hashing.size, error) from error


def read(path: Path) -> State:
    """The state in `path`, on the CPU, after its checksum was found right.

    Raises:
        CheckpointError: the file is missing, cut short, changed, or of another format.
    """
    try:
        with open(path, "rb") as file:
            size = max(os.fstat(file.fileno()).st_size - _TRAILER, 0)
            digest = hashlib.sha256()
            for chunk in iter(lambda: file.read(min(_CHUNK, size - file.tell())), b""):
                digest.update(chunk)
            trailer = file.read()
            if not trailer.startswith(_MARK) or len(trailer) != _TRAILER:
                raise CheckpointError(f"{path} is cut short or no checkpoint of format {FORMAT}")
            if trailer != _MARK + digest.hexdigest().encode() + b"\n":
                raise CheckpointError(f"{path} is damaged: its SHA-256 does not match its content")
            file.seek(0)
            state = saved_tensors.load(file)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    except saved_tensors.RefusedError as error:
        # A check sum proves no origin: whoever made the file could write a right one.
        raise CheckpointError(
            f"{path} holds something else than tensors and numbers ({error}): "
            "take a checkpoint that spikeloom wrote"
        ) from error
    if (problem := _problem(state)) is not None:
        raise CheckpointError(f"{path}: {problem}: take a checkpoint that spikeloom wrote")
    if isinstance(state, dict):
        state = {**copy.deepcopy(_ADDED), **state}
    try:
        _STATE.validate_python(state)
    except ValidationError as error:
        raise CheckpointError(
            f"{path} holds no state of a run, expected the keys and types of format {FORMAT}: "
            "take a checkpoint that spikeloom wrote"
        ) from error
    return cast(State, state)


def check_finite(values: object) -> None:
    """Refuses a tensor that is NaN or infinite anywhere in `values`, dictionaries and lists.

    Raises:
        NonFiniteError: the text says where, as "model.layers.0.weight".
    """
    if (problem := _problem(values)) is not None:
        raise NonFiniteError(f"{problem}: nothing is written")


def _problem(values: object, name: str = "", depth: int = 12) -> str | None:
    """Where `values` holds something else than finite numbers and ordinary tensors, or None."""
    at = name[1:] or "it"
    if depth == 0:
        return f"{at[:100]} is nested too deeply"
    if isinstance(values, Tensor):
        if values.layout != torch.strided or values.is_quantized or values.is_meta:
            return f"{at} is no ordinary tensor"
        if values.numel() * values.element_size() > max(values.untyped_storage().nbytes(), 1):
            return f"{at} claims more elements than it has"
        finite = not values.is_floating_point() or bool(values.isfinite().all())
    else:
        finite = not isinstance(values, float) or math.isfinite(values)
    if not finite:
        return f"{at} is not finite"
    if isinstance(values, Mapping):
        inside: Iterable[tuple[object, object]] = values.items()
    else:
        inside = enumerate(values) if isinstance(values, list | tuple) else ()
    problems = (_problem(value, f"{name}.{key}", depth - 1) for key, value in inside)
    return next((problem for problem in problems if problem is not None), None)


def evaluated_weights(
    model: dict[str, Tensor], callbacks: Mapping[str, Mapping[str, Any]]
) -> dict[str, Tensor]:
    """The weights that evaluations use: `model`'s, or those of a callback that averages them."""
    kept = [state.get("weights") for state in callbacks.values() if isinstance(state, Mapping)]
    averages = [it for it in kept if isinstance(it, Mapping) and it.keys() == model.keys()]
    return dict(averages[-1]) if averages else model


def recipe_difference(
    theirs: dict[str, Any], ours: dict[str, Any], free: tuple[str, ...] = ()
) -> str | None:
    """The first key that makes two recipes (plain values) different experiments, with both values.

    Keys that change no number of the training done so far, such as `training.epochs` or
    `data.root`, may differ. None if nothing else does.
    """
    a, b = flatten(theirs), flatten(ours)
    for key in sorted(a.keys() | b.keys()):
        may = any(key == name or key.startswith(name + ".") for name in (*_FREE_KEYS, *free))
        if not may and a.get(key) != b.get(key):
            return f"{key} = {a.get(key, 'not set')} there, {b.get(key, 'not set')} in recipe.toml"
    return None


class _HashingFile:
    """A file that hashes what is written to it.

    After an error it swallows further writes and only counts them: torch's archive writer does not
    survive an exception in its middle, and the count says how much room is needed.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.size = 0
        self.error: OSError | None = None
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.size += len(data)
        if self.error is None:
            self._hash.update(data)
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Part of the file protocol of `torch.save`; `write` above flushes once, at the end."""

    def digest(self) -> str:
        return self._hash.hexdigest()


def _no_room(path: Path, needed: int, error: OSError) -> CheckpointError:
    if error.errno not in _NO_ROOM or not needed:
        return CheckpointError(f"cannot write {path}: {error.strerror}")
    free = shutil.disk_usage(path.parent).free
    return CheckpointError(
        f"no room in {path.parent}: a checkpoint needs {needed:,} bytes, {free:,} are free "
        f"({error.strerror}); the checkpoints before it are kept: make room, then resume"
    )
