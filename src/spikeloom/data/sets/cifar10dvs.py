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

from spikeloom.data.api import Remote
from spikeloom.data.events.aedat import DVS128, Axes, read_aedat2
from spikeloom.data.events.frames import Framing
from spikeloom.data.events.recordings import EventSet, Pair, pair_of_files
from spikeloom.data.files.archive import Entry, matching

FILES = (
    ("airplane", 7712788, "md5:0afd5c4bf9ae06af762a77b180354fdd"),
    ("automobile", 7712791, "md5:8438dfeba3bc970c94962d995b1b9bdd"),
    ("bird", 7712794, "md5:a9c207c91c55b9dc2002dc21c684d785"),
    ("cat", 7712812, "md5:52c63c677c2b15fa5146a8daf4d56687"),
    ("deer", 7712815, "md5:b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
    ("dog", 7712818, "md5:f379ebdf6703d16e0a690782e62639c3"),
    ("frog", 7712842, "md5:cad6ed91214b1c7388a5f6ee56d08803"),
    ("horse", 7712851, "md5:e7cbbf77bec584ffbf913f00e682782a"),
    ("ship", 7712836, "md5:41c7bd7d6b251be82557c6cce9a7d5c9"),
    ("truck", 7712839, "md5:89f3922fd147d9aeff89e76a2b0b70a7"),
)
CLASSES = [name for name, _, _ in FILES]


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


def _find(entries: list[Entry], options: Mapping[str, str]) -> Pair:
    names = "|".join(map(re.escape, CLASSES))
    files = {
        (CLASSES.index(match[2]), int(match[3])): entry
        for match, entry in matching(entries, rf"cifar10_({names})_(\d+)\.aedat")
    }
    decode = partial(read_aedat2, axes=cast(Axes, options["axes"]))
    how = cast(Literal["numeric", "sorted"], options["split"])
    samples = [
        (bool(tests), label, files[label, number])
        for label in range(len(CLASSES))
        for tests, side in enumerate(split_numbers([n for of, n in files if of == label], how))
        for number in side
    ]
    return pair_of_files(samples, decode, DVS128)


CIFAR10_DVS = EventSet(
    name="cifar10-dvs",
    title="CIFAR10-DVS: CIFAR-10 images moved before an event camera, 128x128",
    folder="CIFAR10DVS",
    layout="CIFAR10DVS/<class>/cifar10_<class>_<number>.aedat  (or CIFAR10DVS/<class>.zip)",
    origin="the ten archives airplane.zip to truck.zip (figshare.com, item 4724671)",
    remotes=tuple(
        Remote(f"https://ndownloader.figshare.com/files/{number}", f"CIFAR10DVS/{name}.zip", md5)
        for name, number, md5 in FILES
    ),
    archives="(" + "|".join(CLASSES) + r"|cifar10-?dvs)\.(zip|tar|tar\.gz)",
    classes=tuple(CLASSES),
    published={"train": 9_000, "test": 1_000},
    framing=Framing(T=20, by="number"),
    find=_find,
    options={"split": ("numeric", "sorted"), "axes": ("xy", "yx")},
)

DATA_SETS = (CIFAR10_DVS,)
