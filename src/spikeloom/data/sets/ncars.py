"""N-CARS: cars and background before an ATIS camera on a car, 24,029 recordings of 0.1 s.

    NCARS/n-cars_train/{cars,background}/obj_<number>_td.dat
    NCARS/n-cars_test/{cars,background}/obj_<number>_td.dat     (or Prophesee_Dataset_n_cars.zip)

The files are Prophesee's .dat (`events.prophesee`); the largest recording has 120x100 pixels.
Source: Sironi et al., CVPR 2018.
"""

from collections.abc import Mapping
from functools import partial

from spikeloom.data.events.formats import Meaning, decode
from spikeloom.data.events.frames import Framing
from spikeloom.data.events.recordings import EventSet, Pair, pair_of_files
from spikeloom.data.files.archive import Entry, matching

SIZE = (2, 100, 120)
CLASSES = ("background", "cars")


def _find(entries: list[Entry], options: Mapping[str, str]) -> Pair:
    del options
    pattern = r"(?:n-cars_)?(train|test)/(cars|background)/obj_(\d+)_td\.dat"
    samples = [(m[2] == "test", CLASSES.index(m[3]), e) for m, e in matching(entries, pattern)]
    samples.sort(key=lambda sample: (sample[1], sample[2].name))
    return pair_of_files(samples, partial(decode, meaning=Meaning(SIZE)), SIZE)


N_CARS = EventSet(
    name="ncars",
    title="N-CARS: cars or not, before an event camera on a car, 120x100",
    folder="NCARS",
    layout="NCARS/n-cars_train/{cars,background}/obj_<number>_td.dat\n"
    "NCARS/n-cars_test/{cars,background}/obj_<number>_td.dat",
    origin="Prophesee_Dataset_n_cars.zip of Prophesee's page of the data set (prophesee.ai)",
    archives=r".*n[-_]?cars.*\.zip",
    classes=CLASSES,
    published={"train": 15_422, "test": 8_607},
    framing=Framing(T=10, by="time"),
    find=_find,
)

DATA_SETS = (N_CARS,)
