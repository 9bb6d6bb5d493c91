"""A data set of one's own: images and labels in one NumPy file, trained by a recipe.

<root>/samples.npz      images uint8 [N, H, W], labels [N] with classes 0, 1, ...
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from spikeloom import data, training
from spikeloom.errors import DataError
from spikeloom.methods.catalog import load_recipe


class NumpyFile(data.Source):
    """Every fifth sample of the file is a test sample."""

    name = "numpy-file"
    title = "images and labels of samples.npz"
    published = {"train": 0, "test": 0}  # how many there must be: unknown

    def files(self, root: Path | None) -> tuple[Path, ...]:
        path = (root or Path("data")) / "samples.npz"
        if not path.is_file():
            raise DataError(f"{path}: no such file; set data.root to the folder that holds it")
        return (path,)

    def load(self, root: Path | None) -> data.DataSet:
        (path,) = self.files(root)
        with np.load(path, allow_pickle=False) as file:
            images, labels = (torch.from_numpy(file[key]) for key in ("images", "labels"))
        if images.dtype != torch.uint8 or images.dim() != 3 or labels.min() < 0:
            raise DataError(f"{path}: expected uint8 images [N, H, W], and labels of 0 or more")
        images, test = images[:, None], torch.arange(len(images)) % 5 == 2
        classes = tuple(str(label) for label in range(int(labels.max()) + 1))
        return data.DataSet(
            data.DataSpec(self.name, tuple(images.shape[1:]), classes),
            train=data.TensorSplit(images[~test], labels[~test]),
            test=data.TensorSplit(images[test], labels[test]),
            mean=(0.0,),
            std=(1.0,),
        )


def main(epochs: int = 10) -> float:
    data.register(NumpyFile())
    folder = Path(tempfile.mkdtemp())
    digits = data.load("digits").train
    images = digits.read(torch.arange(len(digits)))[:, 0]
    np.savez(folder / "samples.npz", images=images.numpy(), labels=digits.labels.numpy())
    changes = ["data=numpy-file", f"root={folder}", f"epochs={epochs}"]
    return training.train(load_recipe("plif/digits", changes), folder / "run").best.test_accuracy


if __name__ == "__main__":
    main()
