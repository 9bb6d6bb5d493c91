"""FSDD, the Free Spoken Digit Dataset, heard through `audio.Cochlea`: 3,000 takes of ten words, 6
speakers.

    FSDD/recordings/<digit>_<speaker>_<take>.wav        8 kHz, mono
    FSDD/fsdd_train.h5, FSDD/fsdd_test.h5               the same as spikes in SHD's layout, see
                                                        `convert`

Takes 0 to 4 of each speaker and digit are the test set (300), takes 5 to 49 the training set
(2,700). Samples are in the order of (digit, speaker, take). Source: Jackson et al.,
github.com/Jakobovski/free-spoken-digit-dataset.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from spikeloom.data.events.array import Events
from spikeloom.data.events.audio import Cochlea, read_wav
from spikeloom.data.events.frames import Framing
from spikeloom.data.events.recordings import EventSet, FileRecordings, Pair, of_files
from spikeloom.data.files.archive import Entry, matching
from spikeloom.data.files.hdf5 import local
from spikeloom.data.sets.shd import open_spikes, write_spikes
from spikeloom.errors import DataError

TEST_TAKES = 5
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def convert(root: Path, folder: Path, cochlea: Cochlea | None = None) -> tuple[Path, Path]:
    """Write the recordings below `root` as `fsdd_train.h5` and `fsdd_test.h5` into `folder`.

    The two files are read instead of the WAV files where they lie in FSDD/: a cochlea with other
    constants then needs no other data set.
    """
    pair = FSDD.open(root)
    ear = cochlea or Cochlea()
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "fsdd_train.h5", folder / "fsdd_test.h5"
    for path, recordings in zip(paths, (pair.train, pair.test), strict=True):
        if not isinstance(recordings, FileRecordings):
            raise DataError(f"{root}: holds spikes already; give the folder with the WAV files")
        pairs = [
            (_decode(entry.read(), entry, cochlea=ear), int(label))
            for entry, label in zip(recordings.entries, recordings.labels, strict=True)
        ]
        write_spikes(path, pairs)
    return paths


def _decode(data: bytes, source: object, *, cochlea: Cochlea) -> Events:
    sound, rate = read_wav(data, source)
    return cochlea.spikes(sound, rate, source=source)


def _find(entries: list[Entry], options: Mapping[str, str]) -> Pair:
    cochlea = Cochlea(channels=int(options["channels"]))
    files = {match[2]: entry for match, entry in matching(entries, r"fsdd_(train|test)\.h5")}
    if files.keys() == {"train", "test"}:
        train, test = (
            open_spikes(local(files[split]), binning="exact", channels=cochlea.channels)
            for split in ("train", "test")
        )
        return Pair(train, test)
    found = sorted(
        (int(match[2]), match[3], int(match[4]), entry)
        for match, entry in matching(entries, r"(\d)_([a-z]+)_(\d+)\.wav")
    )
    decode = partial(_decode, cochlea=cochlea)
    size = (1, 1, cochlea.channels)
    train = [(entry, digit) for digit, _, take, entry in found if take >= TEST_TAKES]
    test = [(entry, digit) for digit, _, take, entry in found if take < TEST_TAKES]
    return Pair(of_files(train, decode, size), of_files(test, decode, size))


FSDD = EventSet(
    name="fsdd",
    title="FSDD: spoken digits of six speakers through a cochlea model, 700 channels",
    folder="FSDD",
    layout="FSDD/recordings/<digit>_<speaker>_<take>.wav",
    obtain="the repository Jakobovski/free-spoken-digit-dataset on GitHub",
    classes=WORDS,
    published={"train": 2_700, "test": 300},
    framing=Framing(T=100, by="window", dt=10_000, origin=0),
    find=_find,
    options={"channels": ("700", "64", "140")},
    archives=r"(free-spoken-digit-dataset.*|fsdd)\.(zip|tar|tar\.gz|tgz)",
    audio=True,
)
