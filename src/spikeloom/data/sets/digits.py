"""Optical recognition of handwritten digits: 1,797 real 8x8 images, bundled with the library.

The file `bundled/digits.npz` holds `images` uint8 `[1797, 8, 8]` (the number 0..16 of dark pixels
in each 4x4 block of a 32x32 scan) and `labels` uint8 `[1797]`, in the publisher's order;
`bundled/digits.txt` says where they are from and under which licence. No download, no root folder.

The split is the library's own, and fixed: of the samples of each class, in file order, the third
of every five is a test sample (1,438 for training, 359 for testing). Writers appear in both.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from spikeloom.data.api import Source
from spikeloom.data.base import DataSet, DataSpec, TensorSplit
from spikeloom.errors import DataError

BUNDLED = Path(__file__).parents[1] / "bundled" / "digits.npz"
_DARKEST = 16


def read_digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Images `[N, 8, 8]` of 0 to 16, labels `[N]`, and which test: of each class the third of every
    five.
    """
    try:
        with np.load(BUNDLED, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"].astype(np.int64)
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{BUNDLED}: cannot be read ({error}): install the library again"
        ) from error
    test = np.zeros(len(labels), bool)
    for label in range(10):
        test[np.flatnonzero(labels == label)[2::5]] = True
    return images, labels, test


class Digits(Source):
    name = "digits"
    title = "UCI handwritten digits, 8x8 grey, bundled with the library"
    published = {"train": 1438, "test": 359}

    def files(self, root: Path | None) -> tuple[Path, ...]:
        return (BUNDLED,)

    def load(self, root: Path | None = None) -> DataSet:
        """The bundled images; `root` is not looked at."""
        counts, labels, test = read_digits()
        # 0..16 dark pixels become 0..255, rounded to the nearest.
        images = ((counts.astype(np.int32) * 255 + _DARKEST // 2) // _DARKEST).astype(np.uint8)
        pixels, classes, chosen = map(torch.from_numpy, (images[:, None], labels, test))
        train = TensorSplit(pixels[~chosen], classes[~chosen])
        held_out = TensorSplit(pixels[chosen], classes[chosen])
        spec = DataSpec(self.name, (1, 8, 8), tuple("0123456789"))
        return DataSet(spec, train, held_out, (0.0,), (1.0,))


DATA_SETS = (Digits(),)
