"""CIFAR10-DVS: 10,000 CIFAR-10 images moved before a DVS128 camera, 128x128.

    CIFAR10DVS/<class>/cifar10_<class>_<number>.aedat       (or CIFAR10DVS/<class>.zip)

The publisher has no split. `split`:

numeric  file numbers 0 to 899 of each class train, 900 to 999 test (the PLIF and DSR programs):
         9,000 and 1,000
sorted   file names of each class sorted as text, the first 90 % train (the GLIF program): 0, 1, 10,
         100, 101, ...

`axes` says which field of an address is x, see `aedat.read_aedat2`: "xy" (PLIF, DSR) or "yx"
(GLIF). Source: Li et al., Front. Neurosci. 2017.
"""

import re
from collections.abc import Mapping
from functools import partial
from math import ceil
from typing import Literal, cast

from spikeloom.data.events.aedat import DVS128, Axes, read_aedat2
from spikeloom.data.events.array import Events
from spikeloom.data.events.frames import Framing
from spikeloom.data.events.recordings import EventSet, Pair, of_files
from spikeloom.data.files.archive import Entry, matching

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def split_numbers(
    numbers: list[int], split: Literal["numeric", "sorted"]
) -> tuple[list[int], list[int]]:
    """Training and test file numbers of one class, each in data set order."""
    if split == "numeric":
        ordered = sorted(numbers)
        return [n for n in ordered if n < 900], [n for n in ordered if n >= 900]
    ordered = sorted(numbers, key=str)
    kept = ceil(0.9 * len(ordered))
    return ordered[:kept], ordered[kept:]


def _decode(data: bytes, source: object, *, axes: Axes) -> Events:
    return read_aedat2(data, axes=axes, source=source)


def _find(entries: list[Entry], options: Mapping[str, str]) -> Pair:
    names = "|".join(map(re.escape, CLASSES))
    files = {
        (CLASSES.index(match[2]), int(match[3])): entry
        for match, entry in matching(entries, rf"cifar10_({names})_(\d+)\.aedat")
    }
    decode = partial(_decode, axes=cast(Axes, options["axes"]))
    train: list[tuple[Entry, int]] = []
    test: list[tuple[Entry, int]] = []
    for label in range(len(CLASSES)):
        numbers = [number for of, number in files if of == label]
        kept, held = split_numbers(numbers, cast(Literal["numeric", "sorted"], options["split"]))
        train += [(files[label, number], label) for number in kept]
        test += [(files[label, number], label) for number in held]
    return Pair(of_files(train, decode, DVS128), of_files(test, decode, DVS128))


CIFAR10_DVS = EventSet(
    name="cifar10-dvs",
    title="CIFAR10-DVS: CIFAR-10 images moved before an event camera, 128x128",
    folder="CIFAR10DVS",
    layout="CIFAR10DVS/<class>/cifar10_<class>_<number>.aedat  (or CIFAR10DVS/<class>.zip)",
    obtain="the ten archives airplane.zip to truck.zip (figshare.com, item 4724671)",
    archives="(" + "|".join(CLASSES) + r"|cifar10-?dvs)\.(zip|tar|tar\.gz)",
    classes=tuple(CLASSES),
    published={"train": 9_000, "test": 1_000},
    framing=Framing(T=20, by="number"),
    find=_find,
    options={"split": ("numeric", "sorted"), "axes": ("xy", "yx")},
)
