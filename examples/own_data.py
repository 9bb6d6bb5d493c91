"""A data set of one's own: a folder of PNG images with one folder per class, trained by a recipe.

python examples/own_data.py            makes such a folder from the bundled digits first
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from spikeloom import data, training
from spikeloom.errors import DataError
from spikeloom.methods.catalog import load_recipe


class PngFolder(data.Source):
    """<root>/<class>/*.png, grey, all of one size; every fifth image of a class is a test image."""

    name = "png-folder"
    title = "grey PNG images, one folder per class"
    published = {"train": 0, "test": 0}  # samples that the publisher's files hold; unknown here

    def files(self, root: Path | None) -> tuple[Path, ...]:
        found = tuple(sorted((root or Path("data")).glob("*/*.png")))
        if not found:
            raise DataError(f"{root}: no <class>/*.png there; set data.root to the folder")
        return found

    def load(self, root: Path | None) -> data.DataSet:
        files = self.files(root)
        classes = sorted({file.parent.name for file in files})
        pixels = np.stack([np.asarray(Image.open(file).convert("L")) for file in files])
        labels = torch.tensor([classes.index(file.parent.name) for file in files])
        images = torch.from_numpy(pixels)[:, None]  # uint8 [N, 1, H, W]
        test = torch.arange(len(files)) % 5 == 2
        train_split = data.TensorSplit(images[~test], labels[~test])
        test_split = data.TensorSplit(images[test], labels[test])
        spec = data.DataSpec(self.name, tuple(images.shape[1:]), tuple(classes))
        return data.DataSet(spec, train_split, test_split, mean=(0.0,), std=(1.0,))


def main(epochs: int = 10) -> float:
    data.register(PngFolder())
    folder = Path(tempfile.mkdtemp())
    digits = data.load("digits").train
    for index, (image, label) in enumerate(zip(digits.inputs, digits.labels, strict=True)):
        path = folder / "images" / str(int(label)) / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(path)

    changes = ["data=png-folder", f"root={folder / 'images'}", f"epochs={epochs}"]
    result = training.train(load_recipe("plif/digits", changes), folder / "run")
    return result.best.test_accuracy


if __name__ == "__main__":
    main()
