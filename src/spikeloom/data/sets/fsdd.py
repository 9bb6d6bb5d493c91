"""FSDD, the Free Spoken Digit Dataset, heard through `audio.Cochlea`: 3,000 takes of ten words, 6
speakers.

    FSDD/recordings/<digit>_<speaker>_<take>.wav        8 kHz, mono

Takes 0 to 4 of each speaker and digit are the test set (300), takes 5 to 49 the training set
(2,700). Samples are in the order of (digit, speaker, take). Source: Jackson et al.,
github.com/Jakobovski/free-spoken-digit-dataset.
"""

from collections.abc import Mapping
from functools import partial

from spikeloom.data.api import Remote
from spikeloom.data.events.array import Events
from spikeloom.data.events.audio import Cochlea, read_wav
from spikeloom.data.events.frames import Framing
from spikeloom.data.events.recordings import EventSet, Pair, pair_of_files
from spikeloom.data.files.archive import Entry, matching

TEST_TAKES = 5
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _decode(data: bytes, source: object, *, cochlea: Cochlea) -> Events:
    sound, rate = read_wav(data, source)
    return cochlea.spikes(sound, rate, source=source)


def _find(entries: list[Entry], options: Mapping[str, str]) -> Pair:
    cochlea = Cochlea(channels=int(options["channels"]))
    takes = sorted(
        (int(match[2]), match[3], int(match[4]), entry)
        for match, entry in matching(entries, r"(\d)_([a-z]+)_(\d+)\.wav")
    )
    samples = [(take < TEST_TAKES, digit, entry) for digit, _, take, entry in takes]
    decode = partial(_decode, cochlea=cochlea)
    return pair_of_files(samples, decode, (1, 1, cochlea.channels))


FSDD = EventSet(
    name="fsdd",
    title="FSDD: spoken digits of six speakers through a cochlea model, 700 channels",
    folder="FSDD",
    layout="FSDD/recordings/<digit>_<speaker>_<take>.wav",
    origin="the repository Jakobovski/free-spoken-digit-dataset on GitHub",
    remotes=(
        Remote(
            "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
            "FSDD/free-spoken-digit-dataset-1.0.10.tar.gz",
        ),
    ),
    classes=WORDS,
    published={"train": 2_700, "test": 300},
    framing=Framing(T=100, by="window", dt=10_000, origin=0),
    find=_find,
    options={"channels": ("700", "64", "140")},
    archives=r"(free-spoken-digit-dataset.*|fsdd)\.(zip|tar|tar\.gz|tgz)",
    audio=True,
)

DATA_SETS = (FSDD,)
