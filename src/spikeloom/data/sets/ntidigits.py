"""N-TIDIGITS: spoken digits through a silicon cochlea with 64 channels; single digits, 11 classes.

Two layouts are read, below NTIDIGITS/ or given as a file:

n-tidigits.hdf5         the publisher's: `{train,test}_labels` [N] byte strings, and for each of
                        them `{train,test}_timestamps/<label>` in seconds and
                        `{train,test}_addresses/<label>`
n-tidigits-single.hdf5  the first-spike authors': groups `data/<key>` with `times` uint32 [n]
                        microseconds, `addrs` uint8 [n, 1], `labels`; group `extra` with
                        `train_keys` and `test_keys`

Of the publisher's file only utterances of one digit count: those whose label's last field, after
"-", is one character. "z" and "o" are both zero, as classes 0 and 10. Source: Anumula et al.,
Front. Neurosci. 2018.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spikeloom.data.events.frames import Framing
from spikeloom.data.events.groups import ColumnRecordings
from spikeloom.data.events.recordings import EventSet, Pair
from spikeloom.data.files.archive import Entry, local, matching, stamp
from spikeloom.data.files.hdf5 import column, opened, reading
from spikeloom.errors import DataError

SIZE = (1, 1, 64)
CLASSES = ("zero", *["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"], "oh")
CLASS_OF = {"z": 0, "o": 10} | {str(digit): digit for digit in range(1, 10)}


def single_digit(label: str) -> int | None:
    """Class of an utterance by its label, None if it is not a single digit."""
    return CLASS_OF.get(label.rsplit("-", 1)[-1])


def open_utterances(path: Path) -> Pair:
    """Both splits of a file in either layout."""
    file = opened(path)
    with reading(path, "the list of groups"):
        groups = set(map(str, file))  # a damaged name comes as bytes
    if {"data", "extra"} <= groups:
        return _authors(path, file)
    if "train_labels" in groups:
        return _publisher(path, file)
    raise DataError(
        f"{path}: has {', '.join(sorted(groups)[:5]) or 'nothing'}, expected train_labels "
        "(publisher's layout) or data and extra (authors' layout)"
    )


def _authors(path: Path, file: Any) -> Pair:
    splits = []
    for split in ("train", "test"):
        keys = column(file, f"extra/{split}_keys", path).astype(np.int64).reshape(-1)
        with reading(path, "labels"):
            labels = [int(column(file, f"data/{key}/labels", path).reshape(-1)[0]) for key in keys]
            columns = tuple((f"data/{key}/times", f"data/{key}/addrs") for key in keys)
            splits.append(
                ColumnRecordings(path, stamp(path), np.array(labels, np.int64), columns, SIZE)
            )
    return Pair(*splits)


def _publisher(path: Path, file: Any) -> Pair:
    splits = []
    for split in ("train", "test"):
        with reading(path, f"{split}_labels"):
            names = [
                name.decode() if isinstance(name, bytes) else str(name)
                for name in file[f"{split}_labels"][()].reshape(-1)
            ]
        single = [name for name in names if single_digit(name) is not None]
        labels = np.array([single_digit(name) for name in single], np.int64)
        columns = tuple(
            (f"{split}_timestamps/{name}", f"{split}_addresses/{name}") for name in single
        )
        splits.append(ColumnRecordings(path, stamp(path), labels, columns, SIZE))
    return Pair(*splits)


def _find(entries: list[Entry], options: Mapping[str, str]) -> Pair | None:
    del options
    files = [entry for _, entry in matching(entries, r"n-tidigits(?:-single)?\.hdf5")]
    if not files:
        return None
    # where both lie, the authors' file: it is the one that published results were made with
    files.sort(key=lambda entry: "single" not in entry.name)
    return open_utterances(local(files[0]))


N_TIDIGITS = EventSet(
    name="ntidigits",
    title="N-TIDIGITS: spoken digits through a silicon cochlea, 64 channels",
    folder="NTIDIGITS",
    layout="NTIDIGITS/n-tidigits.hdf5  (or n-tidigits-single.hdf5)",
    origin="n-tidigits.hdf5 of the page of the data set (docs.inivation.com, data sets)",
    classes=CLASSES,
    published={"train": 2_463, "test": 2_486},
    framing=Framing(T=250, by="window", dt=5_000, horizon=True),
    find=_find,
    audio=True,
)

DATA_SETS = (N_TIDIGITS,)
