"""The part of torchvision that spiking programs use, for where torchvision cannot be imported.

A build of torchvision belongs to one build of torch: where there is none for it, programs fail at
their first line. `install()` serves this then; images are read by `spikeloom.data`, transforms
draw the random numbers that torchvision draws. Anything else is refused by name.
"""

import math
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from spikeloom import data


class Images(Dataset[Any]):
    """`(image, label)`, the image a PIL image before `transform`. Nothing is downloaded."""

    name = ""

    def __init__(
        self,
        root: str,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        download: bool = False,
    ) -> None:
        read = data.load(self.name, root)
        split: Any = read.train if train else read.test
        self.classes = list(read.spec.classes)
        self.data = split.inputs.movedim(1, -1).squeeze(-1).numpy()
        self.targets = split.labels.tolist()
        self.transform, self.target_transform = transform, target_transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image: Any = Image.fromarray(self.data[index])
        label = self.targets[index]
        image = image if self.transform is None else self.transform(image)
        return image, label if self.target_transform is None else self.target_transform(label)


class Compose:
    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image


class ToTensor:
    """uint8 pixels to floats in [0, 1], channels first."""

    def __call__(self, image: Any) -> Tensor:
        pixels = torch.from_numpy(np.array(image))
        pixels = pixels[..., None] if pixels.dim() == 2 else pixels
        return pixels.movedim(-1, 0).contiguous().float().div(255)


class Normalize:
    def __init__(self, mean: Any, std: Any, inplace: bool = False) -> None:
        self.mean, self.std = (torch.as_tensor(value).view(-1, 1, 1) for value in (mean, std))

    def __call__(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std


class RandomHorizontalFlip:
    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, image: Any) -> Any:
        if torch.rand(1) >= self.p:
            return image
        if isinstance(image, Tensor):
            return image.flip(-1)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


class RandomCrop:
    """A window of `size` from the image with `padding` black pixels around it."""

    def __init__(self, size: int | Sequence[int], padding: int = 0) -> None:
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.padding = padding

    def __call__(self, image: Any) -> Any:
        p, (height, width) = self.padding, self.size
        whole = Image.new(image.mode, (image.width + 2 * p, image.height + 2 * p))
        whole.paste(image, (p, p))
        top = int(torch.randint(0, whole.height - height + 1, (1,)))
        left = int(torch.randint(0, whole.width - width + 1, (1,)))
        return whole.crop((left, top, left + width, top + height))


class RandomAffine:
    """Turned, moved and scaled around the middle, nearest pixels, black outside."""

    def __init__(
        self,
        degrees: float | Sequence[float],
        translate: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        shear: None = None,
    ) -> None:
        if shear is not None:
            raise NotImplementedError("RandomAffine(shear=...) is not part of the stand-in")
        self.degrees = (-degrees, degrees) if isinstance(degrees, (int, float)) else tuple(degrees)
        self.translate, self.scale = translate, scale

    def __call__(self, image: Any) -> Any:
        angle = _uniform(*self.degrees)
        moved = (0, 0)
        if self.translate is not None:
            most = self.translate[0] * image.width, self.translate[1] * image.height
            moved = round(_uniform(-most[0], most[0])), round(_uniform(-most[1], most[1]))
        scale = 1.0 if self.scale is None else _uniform(*self.scale)
        turn = math.radians(angle)
        a, b = math.cos(turn) / scale, math.sin(turn) / scale
        x, y = image.width * 0.5, image.height * 0.5
        rows = [a, b, 0.0, -b, a, 0.0]
        rows[2] = a * (-x - moved[0]) + b * (-y - moved[1]) + x
        rows[5] = -b * (-x - moved[0]) + a * (-y - moved[1]) + y
        return image.transform(image.size, Image.Transform.AFFINE, rows, Image.Resampling.NEAREST)


def _uniform(low: float, high: float) -> float:
    return float(torch.empty(1).uniform_(low, high))


TRANSFORMS = (Compose, ToTensor, Normalize, RandomHorizontalFlip, RandomCrop, RandomAffine)
DATASETS = {"MNIST": "mnist", "FashionMNIST": "fashion-mnist", "CIFAR10": "cifar10"}
DATASETS["CIFAR100"] = "cifar100"


def install() -> None:
    """Serve `torchvision`, `.transforms` and `.datasets`, unless the real one can be imported."""
    try:
        import torchvision  # type: ignore[import-not-found]  # noqa: F401
    except (ImportError, RuntimeError, AttributeError):
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
    else:
        return
    base = {"__module__": __name__}
    sets = {name: type(name, (Images,), {**base, "name": ours}) for name, ours in DATASETS.items()}
    globals().update(sets)  # so that worker processes can unpickle them
    contents: dict[str, dict[str, Any]] = {
        "torchvision": {"__version__": "0 (spikeloom's stand-in)"},
        "torchvision.transforms": {kind.__name__: kind for kind in TRANSFORMS},
        "torchvision.datasets": sets,
    }
    for name, names in contents.items():
        module = types.ModuleType(name, __doc__)
        module.__dict__.update(names, __path__=[], __getattr__=_missing(name))
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


def _missing(place: str) -> Callable[[str], Any]:
    def missing(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(
            f"{place}.{name} is not in spikeloom's stand-in, which is served because torchvision "
            "cannot be imported: install the torchvision that belongs to your torch"
        )

    return missing


__all__ = ["DATASETS", "TRANSFORMS", "Images", "install"]
