"""AutoAugment: learned policies of two random changes an image, on Pillow images.

A policy is 25 pairs of changes `name probability level`, one pair drawn for each image; level 0 to
9 is one of ten evenly spaced strengths:

    ShearX, ShearY            0 ... 0.3                                          either sign
    TranslateX, TranslateY    0 ... 150 / 331 of width or height, whole pixels   either sign
    Rotate                    0 ... 30 degrees                                   either sign
    Brightness, Color, Contrast, Sharpness      factor 1 +/- 0 ... 0.9           either sign
    Posterize                 8 ... 4 bits
    Solarize                  inverts values from 256 ... 0 on
    AutoContrast, Equalize, Invert              without a strength

Pixels from outside become `fill`; geometry is nearest neighbour. Source: Cubuk et al.,
"AutoAugment: Learning Augmentation Strategies from Data", CVPR 2019, tables 7 to 9.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from spikeloom.errors import ConfigError

Policy = Literal["cifar10", "imagenet", "svhn"]

_POLICIES: dict[Policy, str] = {
    "cifar10": """
        Invert .1, Contrast .2 6
        Rotate .7 2, TranslateX .3 9
        Sharpness .8 1, Sharpness .9 3
        ShearY .5 8, TranslateY .7 9
        AutoContrast .5, Equalize .9
        ShearY .2 7, Posterize .3 7
        Color .4 3, Brightness .6 7
        Sharpness .3 9, Brightness .7 9
        Equalize .6, Equalize .5
        Contrast .6 7, Sharpness .6 5
        Color .7 7, TranslateX .5 8
        Equalize .3, AutoContrast .4
        TranslateY .4 3, Sharpness .2 6
        Brightness .9 6, Color .2 8
        Solarize .5 2, Invert 0
        Equalize .2, AutoContrast .6
        Equalize .2, Equalize .6
        Color .9 9, Equalize .6
        AutoContrast .8, Solarize .2 8
        Brightness .1 3, Color .7 0
        Solarize .4 5, AutoContrast .9
        TranslateY .9 9, TranslateY .7 9
        AutoContrast .9, Solarize .8 3
        Equalize .8, Invert .1
        TranslateY .7 9, AutoContrast .9
    """,
    "imagenet": """
        Posterize .4 8, Rotate .6 9
        Solarize .6 5, AutoContrast .6
        Equalize .8, Equalize .6
        Posterize .6 7, Posterize .6 6
        Equalize .4, Solarize .2 4
        Equalize .4, Rotate .8 8
        Solarize .6 3, Equalize .6
        Posterize .8 5, Equalize 1
        Rotate .2 3, Solarize .6 8
        Equalize .6, Posterize .4 6
        Rotate .8 8, Color .4 0
        Rotate .4 9, Equalize .6
        Equalize 0, Equalize .8
        Invert .6, Equalize 1
        Color .6 4, Contrast 1 8
        Rotate .8 8, Color 1 2
        Color .8 8, Solarize .8 7
        Sharpness .4 7, Invert .6
        ShearX .6 5, Equalize 1
        Color .4 0, Equalize .6
        Equalize .4, Solarize .2 4
        Solarize .6 5, AutoContrast .6
        Invert .6, Equalize 1
        Color .6 4, Contrast 1 8
        Equalize .8, Equalize .6
    """,
    "svhn": """
        ShearX .9 4, Invert .2
        ShearY .9 8, Invert .7
        Equalize .6, Solarize .6 6
        Invert .9, Equalize .6
        Equalize .6, Rotate .9 3
        ShearX .9 4, AutoContrast .8
        ShearY .9 8, Invert .4
        ShearY .9 5, Solarize .2 6
        Invert .9, AutoContrast .8
        Equalize .6, Rotate .9 3
        ShearX .9 4, Solarize .3 3
        ShearY .8 8, Invert .7
        Equalize .9, TranslateY .6 6
        Invert .9, Equalize .6
        Contrast .3 3, Rotate .8 4
        Invert .8, TranslateY 0 2
        ShearY .7 6, Solarize .4 8
        Invert .6, Rotate .8 4
        ShearY .3 7, TranslateX .9 3
        ShearX .1 6, Invert .6
        Solarize .7 2, TranslateY .6 7
        ShearY .8 4, Invert .8
        ShearX .7 9, TranslateY .8 3
        ShearY .8 5, AutoContrast .7
        ShearX .7 2, Invert .1
    """,
}

_LEVELS = 10
_MOST_SHIFT = 150 / 331


class Change(NamedTuple):
    """One random change: its name, the probability that it happens, and its level 0 ... 9."""

    name: str
    probability: float
    level: int


@cache
def policy(name: Policy) -> tuple[tuple[Change, Change], ...]:
    """The 25 pairs of the policy called `name`."""
    pairs = (line.split(",") for line in _POLICIES[name].strip().splitlines())
    return tuple((_change(first), _change(second)) for first, second in pairs)


def _change(text: str) -> Change:
    name, probability, *level = text.split()
    return Change(name, float(probability), int(level[0]) if level else 0)


def random_policy(inputs: Tensor, name: Policy, fill: int, generator: torch.Generator) -> Tensor:
    """`inputs` `[B, C, H, W]`, uint8 with 1 or 3 channels, each after a pair of its own.

    Five random numbers a sample: which pair, and for both changes whether, and with which sign.
    Raises `ConfigError` for other inputs.
    """
    if inputs.dtype != torch.uint8 or inputs.shape[1] not in (1, 3):
        raise ConfigError(
            f"autoaugment of samples of {inputs.shape[1]} channels, {inputs.dtype}: its policies "
            "are for images of 8 bits, grey or in colour; remove it from data.augment"
        )
    draws = torch.rand(
        len(inputs), 5, dtype=torch.float64, device=generator.device, generator=generator
    ).tolist()
    pairs = policy(name)
    pixels = inputs.permute(0, 2, 3, 1).cpu().numpy()
    changed = np.empty_like(pixels, order="C")
    for sample, (which, *chances) in enumerate(draws):
        grey = pixels.shape[-1] == 1
        image = Image.fromarray(pixels[sample, ..., 0] if grey else pixels[sample])
        for step, change in enumerate(pairs[int(which * len(pairs))]):
            if chances[step] < change.probability:
                sign = 1 if chances[2 + step] < 0.5 else -1
                image = apply(image, change.name, change.level, sign, fill)
        changed[sample] = np.asarray(image).reshape(changed.shape[1:])
    return torch.from_numpy(changed).permute(0, 3, 1, 2).to(inputs.device, copy=True)


def apply(image: Image.Image, name: str, level: int, sign: int, fill: int) -> Image.Image:
    """`image` after the change `name` at `level`, to the side that `sign` (1 or -1) says."""
    part = level / (_LEVELS - 1)
    color = (fill,) * len(image.getbands())
    if name in _MATRICES:
        width, height = image.size
        matrix = _MATRICES[name](sign * part, width, height)
        return image.transform(
            image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=color
        )
    if name == "Rotate":
        return image.rotate(sign * 30 * part, Image.Resampling.NEAREST, fillcolor=color)
    if name in ("Brightness", "Color", "Contrast", "Sharpness"):
        return getattr(ImageEnhance, name)(image).enhance(1 + sign * 0.9 * part)
    if name == "Posterize":
        return ImageOps.posterize(image, 8 - round(4 * part))
    if name == "Solarize":
        return ImageOps.solarize(image, math.ceil(256 * (1 - part)))
    return getattr(ImageOps, name.lower())(image)


# From a pixel of the result to its source: x = a X + b Y + c, y = d X + e Y + f.
_MATRICES: dict[str, Callable[[float, int, int], tuple[float, ...]]] = {
    "ShearX": lambda part, width, height: (1, 0.3 * part, 0, 0, 1, 0),
    "ShearY": lambda part, width, height: (1, 0, 0, 0.3 * part, 1, 0),
    "TranslateX": lambda part, width, height: (1, 0, int(_MOST_SHIFT * width * part), 0, 1, 0),
    "TranslateY": lambda part, width, height: (1, 0, 0, 0, 1, int(_MOST_SHIFT * height * part)),
}
