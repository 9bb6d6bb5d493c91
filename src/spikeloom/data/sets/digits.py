"""Optical recognition of handwritten digits: 1,797 real 8x8 images, bundled with the library.

The file `bundled/digits.npz` holds `images` uint8 `[1797, 8, 8]` (the number 0..16 of dark pixels
in each 4x4 block of a 32x32 scan) and `labels` uint8 `[1797]`, in the publisher's order;
`bundled/digits.txt` says where they are from and under which licence. No download, no root folder.

The split is the library's own, and fixed: of the samples of each class, in file order, the third
of every five is a test sample (1,438 for training, 359 for testing). Writers appear in both.
"""

from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch

from spikeloom.data.api import Source
from spikeloom.data.base import DataSet, DataSpec, TensorSplit
from spikeloom.errors import DataError

_DARKEST = 16


class Digits(Source):
    name = "digits"
    title = "UCI handwritten digits, 8x8 grey, bundled with the library"
    published = {"train": 1438, "test": 359}

    def files(self, root: Path | None) -> tuple[Path, ...]:
        with as_file(files("spikeloom.data") / "bundled" / "digits.npz") as path:
            return (path,)

    def load(self, root: Path | None = None) -> DataSet:
        """The bundled images; `root` is not looked at."""
        (path,) = self.files(root)
        try:
            with np.load(path, allow_pickle=False) as archive:
                counts, labels = archive["images"], archive["labels"]
        except (OSError, KeyError, ValueError) as error:
            raise DataError(
                f"{path}: cannot be read ({error}): install the library again"
            ) from error
        # 0..16 dark pixels become 0..255, rounded to the nearest.
        images = ((counts.astype(np.int32) * 255 + _DARKEST // 2) // _DARKEST).astype(np.uint8)
        test = np.zeros(len(labels), dtype=bool)
        for label in np.unique(labels):
            test[np.flatnonzero(labels == label)[2::5]] = True
        spec = DataSpec(self.name, (1, 8, 8), tuple("0123456789"))
        samples, classes = torch.from_numpy(images[:, None]), torch.from_numpy(labels)
        held_out = torch.from_numpy(test)
        train = TensorSplit(samples[~held_out], classes[~held_out])
        return DataSet(
            spec, train, TensorSplit(samples[held_out], classes[held_out]), (0.0,), (1.0,)
        )


DATA_SETS = (Digits(),)
