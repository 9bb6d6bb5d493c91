"""What a recipe trains on: the data set that `[data]` names, with `network.T` time steps, and the
batches of it for training, validation and test."""

import functools
from dataclasses import replace
from typing import NamedTuple

import torch

from spikeloom.config.data import DataConfig
from spikeloom.config.schema import Recipe
from spikeloom.data import registry
from spikeloom.data.api import Accept
from spikeloom.data.base import DataSet, DataSpec, Split
from spikeloom.data.events.transform import FrameTransform
from spikeloom.data.images.augment import Transform
from spikeloom.data.loader import BatchTransform, Loader
from spikeloom.errors import ConfigError, DataError
from spikeloom.processes import distributed


def load_data(recipe: Recipe, accept: Accept | None = None) -> DataSet:
    """The data set that `recipe` trains on; recordings are prepared as frames if they are not yet,
    and not before `accept` has seen what they are (and raises an error if it has no use for them).

    The shape of a sample is that of what the network is given: after `data.frames.resize`. Raises
    `ConfigError` if a key of the recipe does not fit the data set, `DataError` if files are missing
    or damaged.
    """
    side = recipe.data.frames.resize
    if side is None:
        return _as_stored(recipe, accept)

    def resized(spec: DataSpec) -> DataSpec:
        if len(spec.shape) != 3:
            return spec
        return replace(spec, shape=(spec.shape[0], side, side))

    data = _as_stored(recipe, None if accept is None else lambda spec: accept(resized(spec)))
    return replace(data, spec=resized(data.spec))


def prepare(recipe: Recipe) -> str:
    """Prepare the frames that `recipe` trains on; one line that says what is there now."""
    return registry.source(recipe.data.name).describe(_as_stored(recipe))


def _as_stored(recipe: Recipe, accept: Accept | None = None) -> DataSet:
    source = registry.source(recipe.data.name)
    source.refuse_unused(recipe.data)
    try:
        return source.for_recipe(recipe.data, getattr(recipe.network, "T", None), accept)
    except OSError as error:
        raise DataError(f"{recipe.data.name}: {error.filename}: {error.strerror}") from error


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
    transform = functools.partial(make_transform, config, data.spec, data.mean, data.std)
    changing, plain = transform(training=True), transform(training=False)
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


def make_transform(
    config: DataConfig,
    spec: DataSpec,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    training: bool,
) -> BatchTransform:
    """From raw samples to what the network is given, with augmentation if it is for training.

    Images `[B, C, H, W]` become float32, normalised as the recipe says, by `mean` and `std` of the
    data set unless it has its own. Event frames `[T, B, C, H, W]` become float32 counts, resized
    and changed as `data.frames` says.
    """
    # frames of recordings stay counts: their mean is given as 0
    plain = config.normalize == "none" or (spec.kind == "events" and not any(mean))
    mean, std = config.mean or mean, config.std or std
    if spec.kind == "events":
        mean, std = ((), ()) if plain else (mean, std)
        return FrameTransform(config, spec, training=training, mean=mean, std=std)
    channels = spec.shape[0]
    if plain:
        mean, std = (0.0,) * channels, (1.0,) * channels
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise ConfigError(
                f"data.{name} has {len(values)} values, and images of {spec.name} have "
                f"{channels} channels: give one for each"
            )
    return Transform(config.augment if training else (), mean, std)
