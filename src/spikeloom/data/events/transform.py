"""Changes of whole batches of frames `[T, B, P, H, W]`, on the device the batch is on.

All frames and polarities of a sample change alike: one crop, one mirror image, one shift for each
sample. Crop, flip and rotation are those of images (`augment`), on frames folded into channels.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from spikeloom.config.data import Augmentation, DataConfig
from spikeloom.data.base import DataSpec
from spikeloom.data.images.augment import augment
from spikeloom.errors import ConfigError


@dataclass(frozen=True)
class FrameTransform:
    """From raw frames of `spec`, on the device that they are on, to what a network is given:
    float32, resized, and changed at random for `training`.

    `mean` and `std` `[C]` normalise series `[T, B, C]`. With `resize = 48` and a crop of padding 4
    this is the augmentation of the DSR and GLIF programs ("dsr_da"): resize for training and
    testing, crop for training only.
    """

    config: DataConfig
    spec: DataSpec
    training: bool = field(kw_only=True)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        config, frames, name = self.config, self.config.frames, self.spec.name
        if len(self.spec.shape) == 1 and (config.augment or frames.resize or frames.roll):
            raise ConfigError(
                "data.augment, data.frames.resize and data.frames.roll change pictures, and "
                f"{name} has channels: remove them"
            )
        if images_only := next((step.kind for step in config.augment if not step.frames), None):
            raise ConfigError(
                f"data.augment has {images_only}, which is for images of 8 bits, and {name} has "
                "event frames: remove it"
            )
        if frames.deletion and frames.normalization != "none":
            raise ConfigError(
                f"data.frames.deletion = {frames.deletion} deletes counted events, and "
                f"normalization = {frames.normalization} leaves no counts: set one of them to its "
                "default"
            )

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        config = self.config.frames
        if self.training and config.choose is not None:
            inputs = choose_frames(inputs, config.choose, generator)
        frames = inputs.to(torch.float32)
        if self.mean:
            frames = (frames - frames.new_tensor(self.mean)) / frames.new_tensor(self.std)
        if self.training and config.deletion:
            frames = delete_events(frames, config.deletion, generator)
        if config.resize is not None:
            frames = resize(frames, config.resize, antialias=config.antialias)
        if self.training and self.config.augment:
            frames = augment_frames(frames, self.config.augment, generator)
        return roll(frames, config.roll, generator) if self.training and config.roll else frames


def augment_frames(
    frames: Tensor, steps: Iterable[Augmentation], generator: torch.Generator
) -> Tensor:
    """`frames` `[T, B, P, H, W]` after each of `steps`; every sample draws numbers of its own."""
    T, batch, polarities, height, width = frames.shape
    folded = frames.transpose(0, 1).reshape(batch, T * polarities, height, width)
    changed = augment(folded, steps, generator)
    return changed.view(batch, T, polarities, height, width).transpose(0, 1).contiguous()


def resize(frames: Tensor, side: int, *, antialias: bool = False) -> Tensor:
    """`[..., H, W]` to `[..., side, side]`, bilinear with half-pixel centres.

    The DSR and GLIF programs ran with a torchvision that did not antialias; newer ones do by
    default.
    """
    flat = frames.flatten(0, -4) if frames.dim() > 4 else frames
    small = functional.interpolate(
        flat, size=(side, side), mode="bilinear", align_corners=False, antialias=antialias
    )
    return small.view(*frames.shape[:-2], side, side)


def roll(frames: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """`frames` `[T, B, P, H, W]`, each sample shifted by -pixels..pixels in x and y, wrapping."""
    batch, height, width = frames.shape[1], *frames.shape[-2:]
    shifts = torch.randint(
        -pixels, pixels + 1, (2, batch, 1), generator=generator, device=generator.device
    ).to(frames.device)
    rows = (torch.arange(height, device=frames.device) - shifts[0]) % height
    columns = (torch.arange(width, device=frames.device) - shifts[1]) % width
    sample = torch.arange(batch, device=frames.device)[:, None, None]
    moved = frames.permute(1, 3, 4, 0, 2)[sample, rows[:, :, None], columns[:, None]]
    return moved.permute(3, 0, 4, 1, 2).contiguous()


def delete_events(frames: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Counts after each event was deleted with probability `p`: a binomial draw per cell."""
    if not 0 <= p <= 1:
        raise ValueError(f"p = {p}: give a probability of deletion from 0 to 1")
    kept = torch.full_like(frames, 1 - p)
    if generator.device != frames.device:
        return torch.binomial(frames.cpu(), kept.cpu(), generator=generator).to(frames.device)
    return torch.binomial(frames, kept, generator=generator)


def choose_frames(frames: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` of the T frames, drawn without replacement, in order, the same for all samples."""
    if not 1 <= count <= len(frames):
        raise ValueError(f"count = {count}: give 1 to {len(frames)}, the frames there are")
    drawn = torch.randperm(len(frames), generator=generator, device=generator.device)[:count]
    return frames[drawn.sort().values.to(frames.device)]
