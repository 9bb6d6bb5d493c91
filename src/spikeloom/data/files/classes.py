"""Samples of one's own in class folders, and how they are divided into training and testing.

    ROOT/train/<class>/...  ROOT/test/<class>/...      as people divided them (val/ is noted)
    ROOT/<class>/...                                   divided here

What is not divided yet is divided by a file (`split`), or at random by a seed, the same part of
every class; with `group`, whole groups (persons, recordings) go to one side.
"""

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikeloom.data.files.archive import Entry
from spikeloom.errors import ConfigError, DataError

OPTIONS: Mapping[str, tuple[str, ...]] = {"test": (), "seed": (), "group": (), "split": ()}
"""test   the part of the samples that test, 0.2 unless it is given
seed   of the division, a whole number
group  a regular expression; samples whose names have the same text in its first group (or
       match) stay together
split  a file with lines "name,train" and "name,test"
"""

TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "validation", "valid")


@dataclass(frozen=True)
class Classes:
    """Entries and labels of both sides, in alphabetical order; class names; what to tell."""

    train: tuple[tuple[Entry, int], ...]
    test: tuple[tuple[Entry, int], ...]
    names: tuple[str, ...]
    notes: tuple[str, ...]


def divided(
    entries: Sequence[Entry], suffixes: Sequence[str], options: Mapping[str, str], root: str
) -> Classes:
    """The samples among `entries` (names below `root`) as class folders have them.

    Raises `DataError` if they are in no class folders, or a class is on one side only.
    """
    samples = [entry for entry in entries if entry.name.lower().endswith(tuple(suffixes))]
    notes = []
    if len(samples) < len(entries):
        odd = next(e.name for e in entries if not e.name.lower().endswith(tuple(suffixes)))
        notes.append(f"{len(entries) - len(samples):,} other files are left out ({odd})")
    while len({_top(entry) for entry in samples}) == 1 and all(
        entry.name.count("/") > 1 for entry in samples
    ):  # a folder around all of them, as archives have it
        samples = [replace(entry, name=entry.name.split("/", 1)[1]) for entry in samples]
    tops = {_top(entry).lower() for entry in samples}
    if any(name in tops for name in TRAIN):
        folders = _folders(tops, options, root)
        if unread := sorted(tops - {*folders}):
            notes.append(f"{', '.join(f'{name}/' for name in unread)} beside them is not read")
        samples = [entry for entry in samples if _top(entry).lower() in folders]
        labelled = _labelled(samples, 1, root)
        mask = [folders.index(_top(entry).lower()) for entry in samples]
    else:
        labelled = _labelled(samples, 0, root)
        mask, lines = _mask(labelled, options, root)
        notes += lines
    label_of = {name: i for i, name in enumerate(sorted({name for _, name in labelled}))}
    sides: tuple[list[tuple[Entry, int]], ...] = ([], [])
    for (entry, name), side in zip(labelled, mask, strict=True):
        if side >= 0:
            sides[side].append((entry, label_of[name]))
    seen = [{label for _, label in side} for side in sides]
    for name, label in label_of.items():
        for labels, where in zip(seen, ("training", "testing"), strict=True):
            if label not in labels and any(label in other for other in seen):
                raise DataError(
                    f"{root}: no samples of {name!r} for {where}: put some there, or choose "
                    "another options.seed or options.test"
                )
    if len(label_of) < 2:
        raise DataError(f"{root}: {len(label_of)} class folders with samples, expected two or more")
    train, test = (tuple(side) for side in sides)
    return Classes(train, test, tuple(label_of), tuple(notes))


def _top(entry: Entry) -> str:
    return entry.name.split("/")[0]


def _folders(tops: set[str], options: Mapping[str, str], root: str) -> tuple[str, str]:
    """Which of the folders `tops` holds the samples for training, and which those for testing."""
    for key in ("test", "split", "group"):
        if options[key]:
            raise ConfigError(
                f"data.options.{key} = {options[key]!r}: {root} is divided into folders already; "
                "leave it out, or name the folder of the classes"
            )
    train = next(name for name in TRAIN if name in tops)
    test = next((name for name in TEST if name in tops), None)
    if test is None:
        raise DataError(f"{root}: {train}/ has no {' or '.join(TEST[:3])}/ beside it")
    return train, test


def _labelled(samples: Sequence[Entry], depth: int, root: str) -> list[tuple[Entry, str]]:
    """Each sample with the name of its class folder."""
    bare = [entry for entry in samples if entry.name.count("/") <= depth]
    if bare:
        raise DataError(
            f"{root}: {bare[0].name} and {len(bare) - 1} more lie in no class folder: put each "
            "class into a folder of its own"
        )
    return [(entry, entry.name.split("/")[depth]) for entry in samples]


def _mask(
    labelled: Sequence[tuple[Entry, str]], options: Mapping[str, str], root: str
) -> tuple[list[int], list[str]]:
    """0 for training, 1 for testing, -1 for left out; and notes."""
    if options["split"]:
        return _from_file(labelled, Path(options["split"]), root)
    _, labels = np.unique([name for _, name in labelled], return_inverse=True)
    pattern = options["group"]
    groups = [_group(entry.name, pattern) for entry, _ in labelled] if pattern else None
    mask, note = drawn(labels, groups, options)
    return mask.astype(int).tolist(), [note]


def _group(name: str, pattern: str) -> str:
    """What `pattern` finds in a name: its first group, or all that it matches."""
    try:
        match = re.search(pattern, name)
    except re.error as error:
        raise ConfigError(f"data.options.group = {pattern!r}: no expression ({error})") from error
    if match is None:
        raise ConfigError(f"data.options.group = {pattern!r} finds nothing in {name}")
    return match[1] if match.re.groups else match[0]


def number(text: str, name: str, limit: float = math.inf) -> float:
    """The option `name`, a number above 0 and below `limit`."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < limit:
        below = f" and below {limit:g}" if limit < math.inf else ""
        raise ConfigError(f"data.options.{name} = {text!r}: give a number above 0{below}")
    return value


def drawn(
    labels: npt.NDArray[np.int64], groups: Sequence[str] | None, options: Mapping[str, str]
) -> tuple[npt.NDArray[np.bool_], str]:
    """The samples [N] that `held_out` draws as `options` say, and a note about them."""
    part, seed = number(options["test"] or "0.2", "test", 1), options["seed"] or "0"
    if not seed.isdigit():
        raise ConfigError(f"data.options.seed = {seed!r}: give a whole number")
    mask = held_out(labels, groups, part, int(seed))
    if groups is None:
        return mask, f"{part:g} of each class is held out for testing by seed {seed}"
    tested = sorted({group for group, chosen in zip(groups, mask, strict=True) if chosen})
    shown = ", ".join(tested[:8]) + (", ..." if len(tested) > 8 else "")
    return mask, f"of {len(set(groups))} groups, {len(tested)} test: {shown}"


def held_out(
    labels: npt.NDArray[np.int64], groups: Sequence[str] | None, part: float, seed: int
) -> npt.NDArray[np.bool_]:
    """A mask [N] of about `part` of the samples of every class, or of whole groups.

    Without groups, of `n` samples of a class round(part n) are drawn, at least 1 and not all. With
    groups, they are taken in a drawn order while that brings the number held out nearer to part N.
    """
    mask = np.zeros(len(labels), bool)
    draw = np.random.default_rng(seed)
    if groups is None:
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            count = min(max(round(part * len(rows)), 1), max(len(rows) - 1, 0))
            mask[draw.permutation(rows)[:count]] = True
        return mask
    members: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    if len(members) < 2:
        raise DataError("data.options.group finds one group only: both sides need one")
    order = draw.permutation(sorted(members))
    goal = part * len(labels)
    for number, group in enumerate(order[:-1]):
        rows = members[str(group)]
        here = int(mask.sum())
        if number == 0 or abs(here + len(rows) - goal) < abs(here - goal):
            mask[rows] = True
    return mask


def _from_file(
    labelled: Sequence[tuple[Entry, str]], path: Path, root: str
) -> tuple[list[int], list[str]]:
    try:
        text = path.expanduser().read_text("utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: the split file cannot be read ({error})") from error
    sides: dict[str, int] = {}
    for number, row in enumerate(csv.reader(io.StringIO(text.replace("\t", ","))), 1):
        fields = [field.strip() for field in row if field.strip()]
        if not fields:
            continue
        side = fields[-1].lower()
        if len(fields) != 2 or side not in (*TRAIN, *TEST):
            if number == 1:
                continue  # names of the columns
            raise DataError(f"{path}: line {number} is {row}, expected a name and train or test")
        sides[fields[0].removeprefix("./")] = 0 if side in TRAIN else 1
    mask = [sides.pop(entry.name, -1) for entry, _ in labelled]
    if sides:
        raise DataError(
            f"{path}: {len(sides):,} names are no samples of {root}, for example "
            f"{next(iter(sides))!r}; expected names below it, such as {labelled[0][0].name!r}"
        )
    notes = [f"divided by {path.name}"]
    if left := mask.count(-1):
        odd = labelled[mask.index(-1)][0].name
        notes.append(f"{left:,} samples that {path.name} does not name are left out ({odd})")
    return mask, notes
