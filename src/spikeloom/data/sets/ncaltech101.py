"""N-Caltech101: Caltech101 photographs before a moving ATIS camera, 8,709 recordings of 0.3 s.

    NCALTECH101/Caltech101/<class>/image_<number>.bin      (or Caltech101.zip)

The files have the format of N-MNIST (`events.atis`), from a sensor of up to 240x180 pixels; its
classes are the folders, in alphabetical order, the background included. The publisher has no split:
of each class, in the order of numbers, the third of every five recordings is a test sample. Source:
Orchard et al., Front. Neurosci. 2015.
"""

from collections.abc import Mapping
from functools import partial

from spikeloom.data.events.atis import read_bin
from spikeloom.data.events.frames import Framing
from spikeloom.data.events.recordings import EventSet, Pair, pair_of_files
from spikeloom.data.files.archive import Entry, matching

SIZE = (2, 180, 240)


def _find(entries: list[Entry], options: Mapping[str, str]) -> Pair:
    del options
    named = [(m[2], int(m[3]), e) for m, e in matching(entries, r"([^/]+)/image_(\d+)\.bin")]
    named.sort(key=lambda sample: sample[:2])
    names = tuple(sorted({name for name, _, _ in named}))
    samples = [
        (place % 5 == 2, label, entry)
        for label, name in enumerate(names)
        for place, entry in enumerate(entry for of, _, entry in named if of == name)
    ]
    return pair_of_files(samples, partial(read_bin, size=SIZE), SIZE, classes=names)


N_CALTECH101 = EventSet(
    name="ncaltech101",
    title="N-Caltech101: photographs of objects before a moving event camera, 240x180",
    folder="NCALTECH101",
    layout="NCALTECH101/Caltech101/<class>/image_<number>.bin  (or NCALTECH101/Caltech101.zip)",
    origin="Caltech101.zip of the page of the data set (data.mendeley.com/datasets/cy6cvx3ryv)",
    archives=r"(n-?)?caltech-?101\.zip",
    classes=(),
    published={"train": 6_962, "test": 1_747},
    framing=Framing(T=10, by="number"),
    find=_find,
)

DATA_SETS = (N_CALTECH101,)
