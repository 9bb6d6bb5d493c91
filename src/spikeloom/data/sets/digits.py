"""Optical recognition of handwritten digits: 1,797 real 8x8 images, bundled with the library.

The file `bundled/digits.npz` holds `images` uint8 `[1797, 8, 8]` (the number 0..16 of dark pixels
in each 4x4 block of a 32x32 scan) and `labels` uint8 `[1797]`, in the publisher's order;
`bundled/digits.txt` says where they are from and under which licence. No download, no root folder.

The split is the library's own, and fixed: of the samples of each class, in file order, the third
of every five is a test sample (1,438 for training, 359 for testing). Writers appear in both.
"""

from pathlib import Path

import numpy as np
import torch

from spikeloom.data.api import Source
from spikeloom.data.base import DataSet, DataSpec, TensorSplit
from spikeloom.data.sets.digits_events import BUNDLED, read_digits

_DARKEST = 16


class Digits(Source):
    name = "digits"
    title = "UCI handwritten digits, 8x8 grey, bundled with the library"
    published = {"train": 1438, "test": 359}

    def files(self, root: Path | None) -> tuple[Path, ...]:
        return (BUNDLED,)

    def load(self, root: Path | None = None) -> DataSet:
        """The bundled images; `root` is not looked at."""
        counts, labels, test = read_digits(*self.files(root))
        # 0..16 dark pixels become 0..255, rounded to the nearest.
        images = ((counts.astype(np.int32) * 255 + _DARKEST // 2) // _DARKEST).astype(np.uint8)
        train, held_out = (
            TensorSplit(torch.from_numpy(images[side, None]), torch.from_numpy(labels[side]))
            for side in (~test, test)
        )
        spec = DataSpec(self.name, (1, 8, 8), tuple("0123456789"))
        return DataSet(spec, train, held_out, (0.0,), (1.0,))


DATA_SETS = (Digits(),)
