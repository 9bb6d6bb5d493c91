"""Random changes of whole batches of images, on the device the batch is on.

The random numbers are few (at most five a sample, two for each hole) and come from the given
generator; pixel positions are integers. With a CPU generator the same seed therefore gives the same
images on a CPU and on a GPU. Learned policies (`autoaugment`) are applied image by image on the
CPU, wherever the batch is: about 0.2 ms for one of 3 x 32 x 32.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from spikeloom.config.data import Augmentation

Numbers = npt.NDArray[np.float64]

_FIXED_POINT = 16
"""Binary places of source positions; the number that Pillow uses, so that ties round alike."""


def augment(inputs: Tensor, steps: Iterable[Augmentation], generator: torch.Generator) -> Tensor:
    """`inputs` `[B, C, H, W]`, 8-bit images, after each of `steps` in order; same shape and dtype.

    Every sample draws numbers of its own. Raises `ValueError` for another number of axes.
    """
    if inputs.dim() != 4:
        raise ValueError(
            f"a batch of shape {list(inputs.shape)} cannot be augmented: give images [B, C, H, W]"
        )
    for step in steps:
        inputs = step.apply(inputs, generator)
    return inputs


def to_float(inputs: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """`(inputs / 255 - mean) / std` as float32 `[B, C, H, W]`, from uint8, per channel."""
    if inputs.dtype != torch.uint8:
        raise TypeError(f"images of dtype {inputs.dtype} cannot be normalised: give uint8")
    if not len(mean) == len(std) == inputs.shape[1]:
        raise ValueError(
            f"{len(mean)} means and {len(std)} deviations for {inputs.shape[1]} channels: "
            "give one of each per channel"
        )
    scaled = inputs.to(torch.float32).div_(255)
    for channel, (center, spread) in enumerate(zip(mean, std, strict=True)):
        if (center, spread) != (0, 1):
            scaled[:, channel].sub_(center).div_(spread)
    return scaled


@dataclass(frozen=True)
class Transform:
    """From raw 8-bit images to what a network is given: `to_float` of `augment`, for a `Loader`."""

    steps: tuple[Augmentation, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        return to_float(augment(inputs, self.steps, generator), self.mean, self.std)


def affine(inputs: Tensor, angle: Tensor, shift: Tensor, scale: Tensor, fill: int = 0) -> Tensor:
    """Rotate, scale, then shift each image about its centre; nearest neighbour.

    `inputs` `[B, C, H, W]`; `angle` `[B]` in degrees, positive clockwise as seen; `shift` `[B, 2]`
    in pixels, to the right and downwards; `scale` `[B]`, above 1 enlarges. Pixels whose source lies
    outside become `fill`.

    The centre of output pixel p is taken back to its source: with c the image centre and R a
    rotation by `angle`,

        source = c + R^-1 (p - c - shift) / scale

    This is the convention of torchvision's RandomAffine on Pillow images, and with the same numbers
    it gives the same images: positions are rounded to 2^-16 pixels, then down to a pixel, in
    integers.
    """
    height, width = inputs.shape[2:]
    turn, way, factor = (part.to("cpu", torch.float64).numpy() for part in (angle, shift, scale))
    matrix = _inverse(turn, way, factor, height, width)
    per_x, per_y, start = torch.from_numpy(matrix).to(inputs.device)[..., None, None]
    x = torch.arange(width, device=inputs.device)
    y = torch.arange(height, device=inputs.device)[:, None]
    column, row = (per_x * x + (per_y * y + start)) >> _FIXED_POINT
    # A frame of `fill` around the image is the source of everything outside.
    framed = functional.pad(inputs, (1, 1, 1, 1), value=fill)
    column.clamp_(-1, width).add_(1)
    row.clamp_(-1, height).add_(1)
    return _take(framed, torch.add(column, row, alpha=width + 2))


def _inverse(
    angle: Numbers, shift: Numbers, scale: Numbers, height: int, width: int
) -> npt.NDArray[np.int64]:
    """Source column and row as `per_x x + per_y y + start`: `[3, 2, B]`, in 2^-16 pixels.

    In NumPy, because on a few numbers each of its operations costs a fraction of one in torch.
    """
    radians = np.radians(angle)
    cosine, sine = np.cos(radians) / scale, np.sin(radians) / scale
    x, y = width / 2, height / 2
    # Pixel (0, 0) has its centre at (0.5, 0.5).
    left, top = 0.5 - x - shift[:, 0], 0.5 - y - shift[:, 1]
    start = [cosine * left + sine * top + x, cosine * top - sine * left + y]
    fixed = np.array([[cosine, -sine], [sine, cosine], start]) * 2**_FIXED_POINT
    return np.floor(fixed + 0.5).astype(np.int64)


def random_affine(
    inputs: Tensor,
    generator: torch.Generator,
    *,
    degrees: float,
    translate: float,
    scale: tuple[float, float],
    fill: int,
) -> Tensor:
    """Angle, shifts, and scale drawn independently and uniformly; shifts are whole pixels."""
    draws = torch.rand(
        len(inputs), 4, dtype=torch.float64, device=generator.device, generator=generator
    ).cpu()
    signed = draws * 2 - 1
    height, width = inputs.shape[2:]
    most = torch.tensor([translate * width, translate * height], dtype=torch.float64)
    smallest, largest = scale
    return affine(
        inputs,
        angle=signed[:, 0] * degrees,
        shift=(signed[:, 1:3] * most).round(),
        scale=smallest + draws[:, 3] * (largest - smallest),
        fill=fill,
    )


def random_crop(inputs: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Zeros on all sides, then a window of the original size at a random place."""
    batch, _, height, width = inputs.shape
    offsets = torch.randint(
        2 * padding + 1, (2, batch, 1, 1), device=generator.device, generator=generator
    )
    left, top = offsets.to(inputs.device)
    padded = functional.pad(inputs, (padding,) * 4)
    x = torch.arange(width, device=inputs.device)
    y = torch.arange(height, device=inputs.device)[:, None]
    index = (y + top) * (width + 2 * padding) + (x + left)
    return _take(padded, index)


def random_flip(inputs: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Left and right exchanged with probability `p`."""
    draws = torch.rand(len(inputs), 1, 1, 1, device=generator.device, generator=generator)
    return torch.where((draws < p).to(inputs.device), inputs.flip(3), inputs)


def alternating_flip(inputs: Tensor, epoch: int, samples: Tensor) -> Tensor:
    """Left and right exchanged where the parity of `epoch` plus a hash of the sample is odd."""
    first = samples * 0x9E3779B1 >> 20  # Knuth's multiplicative hash: as good as a coin
    odd = ((first + epoch) % 2 == 1).view(-1, 1, 1, 1).to(inputs.device)
    return torch.where(odd, inputs.flip(3), inputs)


def random_holes(inputs: Tensor, size: int, holes: int, generator: torch.Generator) -> Tensor:
    """Zeros in `holes` squares of each sample, from size // 2 pixels before a random pixel on.

    Source: DeVries & Taylor, "Improved Regularization of Convolutional Neural Networks with
    Cutout", 2017.
    """
    batch, _, height, width = inputs.shape
    keep = torch.ones(batch, 1, height, width, dtype=inputs.dtype, device=inputs.device)
    for _ in range(holes):
        sides = []
        for length in (height, width):
            center = torch.randint(
                length, (batch, 1), device=generator.device, generator=generator
            ).to(inputs.device)
            away = torch.arange(length, device=inputs.device) - (center - size // 2)
            sides.append((away >= 0) & (away < size))
        rows, columns = sides
        keep *= ~(rows[:, None, :, None] & columns[:, None, None, :])
    return inputs * keep


def _take(inputs: Tensor, index: Tensor) -> Tensor:
    """In every channel the pixels at the flat positions `index` `[B, H, W]`: `[B, C, H, W]`."""
    channels = inputs.shape[1]
    flat = index.flatten(1)[:, None].expand(-1, channels, -1)
    return inputs.flatten(2).gather(2, flat).unflatten(2, index.shape[1:])
