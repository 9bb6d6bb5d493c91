"""Random changes of whole batches of images, on the device the batch is on.

The random numbers are few (at most four a sample) and come from the given generator; pixel
positions are integers. With a CPU generator the same seed therefore gives the same images on a CPU
and on a GPU.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from spikeloom.config.schema import Affine, Augmentation, Crop, Flip

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
        match step:
            case Affine():
                inputs = _random_affine(inputs, step, generator)
            case Crop():
                inputs = _random_crop(inputs, step.padding, generator)
            case Flip():
                inputs = _random_flip(inputs, step.p, generator)
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


def affine(inputs: Tensor, angle: Tensor, shift: Tensor, scale: Tensor, fill: float = 0) -> Tensor:
    """Rotate, scale, then shift each image about its centre; nearest neighbour.

    `inputs` `[B, C, H, W]`; `angle` `[B]` in degrees, positive clockwise as seen; `shift` `[B, 2]`
    in pixels, to the right and downwards; `scale` `[B]`, above 1 enlarges. Pixels whose source
    lies outside become `fill`.

    The centre of output pixel p is taken back to its source: with c the image centre and R a
    rotation by `angle`,

        source = c + R^-1 (p - c - shift) / scale

    This is the convention of torchvision's RandomAffine on Pillow images, and with the same
    numbers it gives the same images: positions are rounded to 2^-16 pixels, then down to a pixel,
    in integers.
    """
    batch, _, height, width = inputs.shape
    matrix = _inverse(angle, shift, scale, height, width).to(inputs.device)
    x = torch.arange(width, device=inputs.device)
    y = torch.arange(height, device=inputs.device)[:, None]
    per_x, per_y, start = matrix.view(3, 2, batch, 1, 1)
    column, row = (per_x * x + (per_y * y + start)) >> _FIXED_POINT
    outside = (column < 0) | (column >= width) | (row < 0) | (row >= height)
    index = (row * width + column).masked_fill_(outside, 0)
    moved = _take(inputs, index, height, width)
    return moved.masked_fill_(outside[:, None], fill)


def _inverse(angle: Tensor, shift: Tensor, scale: Tensor, height: int, width: int) -> Tensor:
    """Source column and row as `per_x x + per_y y + start`: int64 `[3, 2, B]`, in 2^-16 pixels."""
    radians = angle.to("cpu", torch.float64) * (torch.pi / 180)
    shift, scale = shift.to("cpu", torch.float64), scale.to("cpu", torch.float64)
    cosine, sine = radians.cos() / scale, radians.sin() / scale
    center = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    back = -center - shift
    per_x = torch.stack([cosine, -sine])
    per_y = torch.stack([sine, cosine])
    # Pixel (0, 0) has its centre at (0.5, 0.5).
    start = per_x * (back[:, 0] + 0.5) + per_y * (back[:, 1] + 0.5) + center[:, None]
    fixed = torch.stack([per_x, per_y, start]) * 2**_FIXED_POINT
    return (fixed + 0.5).floor().to(torch.int64)


def _random_affine(inputs: Tensor, step: Affine, generator: torch.Generator) -> Tensor:
    """Angle, shifts, and scale drawn independently and uniformly; shifts are whole pixels."""
    draws = torch.rand(
        4, len(inputs), dtype=torch.float64, device=generator.device, generator=generator
    ).cpu()
    signed = draws[:3] * 2 - 1
    size = torch.tensor([[inputs.shape[3]], [inputs.shape[2]]])
    shift = (signed[1:] * (step.translate * size)).round().T
    smallest, largest = step.scale
    scale = smallest + draws[3] * (largest - smallest)
    return affine(inputs, signed[0] * step.degrees, shift, scale, step.fill)


def _random_crop(inputs: Tensor, padding: int, generator: torch.Generator) -> Tensor:
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
    return _take(padded, index, height, width)


def _random_flip(inputs: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Left and right exchanged with probability `p`."""
    draws = torch.rand(len(inputs), 1, 1, 1, device=generator.device, generator=generator)
    return torch.where((draws < p).to(inputs.device), inputs.flip(3), inputs)


def _take(inputs: Tensor, index: Tensor, height: int, width: int) -> Tensor:
    """`[B, C, height, width]`: pixels at flat positions `index` `[B, height, width]`."""
    batch, channels = inputs.shape[:2]
    flat = index.reshape(batch, 1, height * width).expand(-1, channels, -1)
    return inputs.flatten(2).gather(2, flat).view(batch, channels, height, width)
