"""Recordings of one's own in class folders: `data=eventfolder data.root=FOLDER`.

    FOLDER/train/<class>/*  FOLDER/test/<class>/*     or   FOLDER/<class>/*, divided by a seed, a
                                                           file, or groups (see `files.classes`)

Files are those of `events.formats`, also inside archives. What their columns mean is told by
options or found in up to 24 of them, and said by `spikeloom data show FOLDER`:

size      of the sensor, such as 346x260; else as the files say, or a known sensor that fits
unit      of the times: us, ms, s or ns
columns   the order of unnamed columns, such as txyp or xytp
polarity  both, merged (one channel) or swapped
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from spikeloom.data.events.array import Columns, Events
from spikeloom.data.events.formats import (
    SUFFIXES,
    UNITS,
    Meaning,
    decode,
    guess_unit,
    read_columns,
    understood,
)
from spikeloom.data.events.frames import Framing
from spikeloom.data.events.recordings import EventSet, Pair, of_files
from spikeloom.data.files.archive import Entry
from spikeloom.data.files.classes import OPTIONS, divided
from spikeloom.errors import ConfigError

if TYPE_CHECKING:
    from spikeloom.data.base import DataSpec

LOOKED_AT = 24
SENSORS = {  # (height, width): name
    (34, 34): "N-MNIST's",
    (128, 128): "a DVS128",
    (180, 240): "a DAVIS240",
    (240, 304): "an ATIS",
    (260, 346): "a DAVIS346",
    (480, 640): "a VGA sensor",
    (720, 1280): "an HD sensor",
}


def meaning_of(
    all_columns: list[Columns], options: Mapping[str, str]
) -> tuple[Meaning, tuple[str, ...]]:
    """What some recordings tell about all of them, and sentences about it."""
    lines = []
    unit = options["unit"]
    if not unit:
        unit, why = guess_unit(all_columns)
        lines.append(f"times in {unit} ({why})")
    sides = {columns.size for columns in all_columns if columns.size is not None}
    if options["size"]:
        height, width = _size(options["size"])
    elif len(sides) == 1:
        height, width = sides.pop()
        lines.append(f"a sensor of {width}x{height} (as the files say)")
    else:
        seen = [int(max((c.y.max() for c in all_columns if len(c.y)), default=0)) + 1]
        seen.append(int(max((c.x.max() for c in all_columns if len(c.x)), default=0)) + 1)
        height, width, why = _sensor(seen[0], seen[1])
        lines.append(f"a sensor of {width}x{height} ({why})")
    merged = options["polarity"] == "merged" or any(columns.p is None for columns in all_columns)
    if any(columns.p is None for columns in all_columns):
        lines.append("no polarity: one channel")
    size = 1 if merged else 2, height, width
    return Meaning(size, unit, options["columns"], options["polarity"]), tuple(lines)


def _size(text: str) -> tuple[int, int]:
    """(height, width) from "346x260"."""
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise ConfigError(f"data.options.size = {text!r}: give width and height, such as 346x260")
    return int(height), int(width)


def _sensor(height: int, width: int) -> tuple[int, int, str]:
    """The smallest known sensor that holds these coordinates, if they nearly fill it."""
    for (rows, columns), name in SENSORS.items():
        if 0.8 * rows < height <= rows and 0.8 * columns < width <= columns:
            return rows, columns, f"coordinates fit {name}; options.size tells another"
    return height, width, "as large as the coordinates seen; options.size tells another"


def _find(entries: list[Entry], options: Mapping[str, str]) -> Pair:
    if options["unit"] and options["unit"] not in UNITS:
        raise ConfigError(f"data.options.unit = {options['unit']!r}: give {', '.join(UNITS)}")
    classes = divided(entries, SUFFIXES, options, _root(entries))
    samples = [entry for entry, _ in classes.train + classes.test]
    places = np.unique(np.linspace(0, len(samples) - 1, LOOKED_AT).astype(np.int64))
    looked_at = [
        read_columns(samples[place].read_bytes(), str(samples[place]), options["columns"])
        for place in places
    ]
    meaning, lines = meaning_of(looked_at, options)
    as_events = partial(decode, meaning=meaning)
    return Pair(
        of_files(classes.train, as_events, meaning.size, sort=True),
        of_files(classes.test, as_events, meaning.size, sort=True),
        classes=classes.names,
        notes=(*lines, *classes.notes),
    )


def _root(entries: list[Entry]) -> str:
    if not entries:
        return "it"
    first = entries[0]  # an archive is its own root, however deep its folders are
    return str(first.path if first.member else first.path.parents[first.name.count("/")])


class OwnRecordings(EventSet):
    """Class folders of recordings; every key of `options` may be guessed."""

    def recording(
        self, content: bytes, name: str, options: Mapping[str, str], spec: "DataSpec"
    ) -> Events:
        columns = read_columns(content, name, options["columns"])
        given = dict(options)
        if not given["size"] and columns.size is None:  # as the network was trained
            given["size"] = f"{spec.shape[2]}x{spec.shape[1]}"
        meaning, _ = meaning_of([columns], given)
        meaning = replace(meaning, size=(spec.shape[0], *meaning.size[1:]))
        return understood(columns, meaning, name).in_time_order()


EVENT_FOLDER = OwnRecordings(
    name="eventfolder",
    title="event recordings of your own, one folder per class",
    folder="eventfolder",
    layout="FOLDER/train/<class>/* and FOLDER/test/<class>/*  (or FOLDER/<class>/*)\n"
    f"with files that end in {', '.join(SUFFIXES)}",
    origin="wherever they are: data.root names the folder",
    classes=(),
    published={"train": 0, "test": 0},
    framing=Framing(T=10, by="number"),
    find=_find,
    options={
        "size": (),
        "unit": (),
        "columns": (),
        "polarity": ("both", "merged", "swapped"),
        **OPTIONS,
    },
    archives=r".*\.(zip|tar|tar\.gz|tgz)",
)

DATA_SETS = (EVENT_FOLDER,)
