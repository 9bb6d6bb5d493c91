"""The batches that a recipe asks for: training, validation, test."""

from typing import NamedTuple

import torch

from spikeloom.config.data import DataConfig
from spikeloom.config.schema import Recipe
from spikeloom.data.base import DataSet, Split
from spikeloom.data.events.transform import frame_transform
from spikeloom.data.images.augment import Transform
from spikeloom.data.loader import BatchTransform, Loader
from spikeloom.errors import ConfigError
from spikeloom.processes import distributed
from spikeloom.run.inputs import Inputs


class Loaders(NamedTuple):
    """`val` is None under accuracy-A."""

    train: Loader
    val: Loader | None
    test: Loader


def make_loaders(recipe: Recipe, data: DataSet, device: torch.device) -> Loaders:
    """The loaders of this process; their streams are those of the recipe's seed."""
    config, protocol = recipe.data, recipe.protocol
    if data.spec.targets and config.sampling == "balanced":
        raise ConfigError("data.sampling = balanced: a regression has no classes; set it to all")
    train, val = protocol.splits(data)
    changing = make_transform(config, data, training=True)
    plain = make_transform(config, data, training=False)
    rank, world_size = distributed.rank(), distributed.world_size()

    def loader(split: Split, name: str, *, training: bool) -> Loader:
        return Loader(
            split,
            config.batch_size if training else config.eval_batch_size or config.batch_size,
            shuffle=training,
            balanced=name == "train" and config.sampling == "balanced",
            drop_last=training and (config.drop_last or name == "val"),
            together=training,
            seed_names=(recipe.seed, name),
            transform=changing if training else plain,
            device=device,
            rank=rank,
            world_size=world_size,
            workers=config.workers,
            random_read=training,
        )

    return Loaders(
        train=loader(train, "train", training=True),
        val=None if val is None else loader(val, "val", training=protocol.validates_like_training),
        test=loader(data.test, "test", training=False),
    )


def make_transform(config: DataConfig, data: DataSet | Inputs, *, training: bool) -> BatchTransform:
    """From raw samples to what the network is given, with augmentation if it is for training.

    Images `[B, C, H, W]` become float32, normalised as the recipe says. Event frames
    `[T, B, C, H, W]` become float32 counts, resized and changed as `data.frames` says.
    """
    if data.spec.kind == "events":
        # frames of recordings stay counts: their mean is given as 0
        plain = config.normalize == "none" or not any(data.mean)
        mean, std = ((), ()) if plain else (config.mean or data.mean, config.std or data.std)
        return frame_transform(config, data.spec, training=training, mean=mean, std=std)
    channels = data.spec.shape[0]
    mean, std = config.mean or data.mean, config.std or data.std
    if config.normalize == "none":
        mean, std = (0.0,) * channels, (1.0,) * channels
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise ConfigError(
                f"data.{name} has {len(values)} values, and images of {data.spec.name} have "
                f"{channels} channels: give one for each"
            )
    return Transform(config.augment if training else (), mean, std)
