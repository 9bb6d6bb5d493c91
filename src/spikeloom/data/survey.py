"""What `spikeloom data check` and `data prepare` do: read everything, say what is there."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

import torch

from spikeloom.config.data import DataConfig
from spikeloom.data import registry
from spikeloom.data.base import DataSet, Split
from spikeloom.data.events.formats import SUFFIXES as recording_suffixes
from spikeloom.data.files.archive import scan, walk
from spikeloom.data.images.decode import SUFFIXES
from spikeloom.errors import DataError

FOREIGN = "not the publisher's files"
"""How the note begins that files have other check sums."""

_CHUNK = 1024
_BYTES = 64 << 20


@dataclass(frozen=True)
class SplitReport:
    """What a split holds: samples per class, and the smallest and largest raw value."""

    samples: int
    shape: tuple[int, ...]
    classes: tuple[int, ...]
    values: tuple[float, float]


@dataclass(frozen=True)
class FileReport:
    """Size in bytes, and whether it is the publisher's file; None where its sum is not known."""

    size: int
    original: bool | None


@dataclass(frozen=True)
class CheckReport:
    """What a data set holds, after every file was read and checked; `str` of it is for people."""

    name: str
    title: str
    files: Mapping[Path, FileReport]
    splits: Mapping[str, SplitReport]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.title}"]
        for path, file in self.files.items():
            verdict = {True: ", the publisher's file", False: ", changed", None: ""}[file.original]
            lines.append(f"  {path}  {file.size:,} bytes{verdict}")
        for split, report in self.splits.items():
            shape = "x".join(map(str, report.shape))
            low, high = report.values
            fewest, most = min(report.classes), max(report.classes)
            each = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
            lines.append(
                f"  {split}: {report.samples:,} samples of {shape}, values {low:g}..{high:g}, "
                f"{each} of each of {len(report.classes)} classes"
            )
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


_MOST_BYTES = 2 << 30


def check(name: str, root: str | Path | None = None) -> CheckReport:
    """Read and check all of the data set called `name`; `root` and errors as in `load`."""
    source = registry.source(name)
    folder = None if root is None else Path(root)
    data = source.load(folder)
    files = {path: _verify(path, source.checksums) for path in source.files(folder)}
    return CheckReport(
        name=source.name,
        title=source.title,
        files=files,
        splits={
            name: _examine(split, data.spec.class_count, data.spec.kind == "static")
            for name, split in (("train", data.train), ("test", data.test))
        },
        notes=(*data.notes, *_changed(files)),
    )


def data_notes(config: DataConfig, data: DataSet) -> list[str]:
    """What a reader of results on `data`, that of a recipe's `[data]`, must know: samples that the
    publisher has and are not here, and files that are not the publisher's.

    Check sums are taken of files whose sums are known, unless they are gigabytes.
    """
    source = registry.source(config.name)
    root = None if config.root is None else Path(config.root)
    known = [path for path in source.files(root) if path.name in source.checksums]
    if sum(path.stat().st_size for path in known) > _MOST_BYTES:
        return list(data.notes)
    return [*data.notes, *_changed({path: _verify(path, source.checksums) for path in known})]


def _changed(files: "Mapping[Path, FileReport]") -> tuple[str, ...]:
    changed = [path.name for path, file in files.items() if file.original is False]
    if not changed:
        return ()
    names = ", ".join(changed)
    return (f"{FOREIGN}, so results may not compare with published ones: {names}",)


def prepare(name: str, root: str | Path | None = None) -> str:
    """Convert the data set called `name` where that pays; one line that says what was done."""
    return registry.source(name).prepare(None if root is None else Path(root))


def _verify(path: Path, checksums: Mapping[str, str]) -> FileReport:
    expected = checksums.get(path.name)
    if path.is_dir():  # of recordings, too many to be listed
        return FileReport(sum(info.st_size for _, info in walk(path)), None)
    size = path.stat().st_size
    if expected is None:
        return FileReport(size, None)
    with path.open("rb") as file:
        # MD5 because that is what the publishers give; it guards against accidents, not enemies.
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return FileReport(size, digest.hexdigest() == expected)


def _examine(split: Split, classes: int, static: bool) -> SplitReport:
    low, high = float("inf"), float("-inf")
    shape: tuple[int, ...] = ()
    sample = split.read(torch.arange(1))
    chunk = max(1, min(_CHUNK, _BYTES // max(sample.nbytes, 1)))
    for indices in torch.arange(len(split)).split(chunk):
        raw = split.read(indices)
        # Images are [B, C, H, W]; frames have time before the batch, [T, B, C, H, W].
        shape = tuple(raw.shape[1:] if static else (raw.shape[0], *raw.shape[2:]))
        low, high = min(low, float(raw.min())), max(high, float(raw.max()))
    counts = torch.bincount(split.labels, minlength=classes)
    return SplitReport(len(split), shape, tuple(counts.tolist()), (low, high))


def describe_own(path: Path, options: Mapping[str, str] | None = None) -> str:
    """What a folder, an archive or a file of one's own is understood as, and how to train on it.

    Raises `DataError` if it is nothing that a data set of one's own is made of.
    """
    if path.suffix.lower() in (".npz", ".npy") and path.is_file():
        name = "arrays"
    else:
        counts = Counter(PurePath(entry.name).suffix.lower() for entry in scan(path))
        images = sum(counts[suffix] for suffix in SUFFIXES)
        recordings = sum(counts[suffix] for suffix in recording_suffixes)
        if not images and not recordings:
            usual = ", ".join(sorted({*SUFFIXES, *recording_suffixes}))
            raise DataError(f"{path}: holds no images and no recordings; expected files in {usual}")
        name = "imagefolder" if images > recordings else "eventfolder"
    source = registry.source(name)
    return f"{path}: data={name}, {source.title}\n{source.understood(path, options)}"
