"""The data set of a recipe, and what happens to its batches of event frames.

Images are loaded by name. Recordings become frames as `[data.frames]` says, with `network.T` frames
in all; what it leaves open is as usual for the data set.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from spikeloom.config.data import DataConfig, FramesConfig
from spikeloom.config.schema import Recipe
from spikeloom.data import registry
from spikeloom.data.base import DataSet
from spikeloom.data.events.frame_augment import FrameTransform
from spikeloom.data.events.frames import Framing
from spikeloom.data.images import ImageSource
from spikeloom.data.progress import Bar
from spikeloom.data.sets.event_source import EventSource, describe
from spikeloom.data.spec import DataSpec
from spikeloom.errors import ConfigError


def load_data(recipe: Recipe) -> DataSet:
    """The data set that `recipe` trains on; recordings are prepared as frames if they are not yet.

    The shape of a sample is that of what the network is given: after `data.frames.resize`. Raises
    `ConfigError` if a key of the recipe does not fit the data set, `DataError` as `registry.load`
    does.
    """
    data = _as_stored(recipe)
    side = recipe.data.frames.resize
    if side is None or len(data.spec.shape) != 3:
        return data
    return replace(data, spec=replace(data.spec, shape=(data.spec.shape[0], side, side)))


def _as_stored(recipe: Recipe) -> DataSet:
    config = recipe.data
    source = registry.source(config.name)
    root = None if config.root is None else Path(config.root)
    if not isinstance(source, EventSource):
        _refuse_for_images(config)
        if isinstance(source, ImageSource):
            return source.load(root, config.images)
        return source.load(root)
    framing = make_framing(config.frames, source.events.framing, getattr(recipe.network, "T", None))
    _check_options(config.name, config.options, source.events.options)
    with Bar(f"preparing {config.name}") as bar:
        return source.load(root, framing, config.frames.normalization, config.options, bar.show)


def prepare(recipe: Recipe) -> str:
    """Prepare the frames that `recipe` trains on; one line that says what is there now."""
    data = _as_stored(recipe)
    if data.spec.kind == "static":
        return f"{data.spec.name}: verified; images are read as published, nothing to prepare"
    return describe(data)


def make_framing(config: FramesConfig, usual: Framing, steps: int | None) -> Framing:
    """`usual` with what `config` changes, for a network of `steps` time steps (None: as usual)."""
    empty = usual.empty if config.empty is None else config.empty
    total = usual.steps if steps is None else steps
    if total <= empty:
        raise ConfigError(
            f"network.T = {total} with data.frames.empty = {empty}: no frame is left for the "
            "events; "
            f"give T above {empty}"
        )
    if config.choose is not None and config.choose > total:
        raise ConfigError(
            f"data.frames.choose = {config.choose} of network.T = {total} frames: give {total} or "
            "less"
        )
    by = config.by or usual.by
    windows = by == "window"
    for key, value in (("dt", config.dt), ("begin", config.begin), ("horizon", config.horizon)):
        if value is not None and not windows:
            raise ConfigError(
                f"data.frames.{key} has no effect on frames by {by}: remove it or set by = window"
            )
    if windows and not (usual.dt or config.dt):
        raise ConfigError("data.frames.by = window needs data.frames.dt, a window's milliseconds")
    changes: dict[str, Any] = {"T": total - empty, "by": by, "empty": empty}
    if not windows:
        changes |= {"dt": 0, "origin": "first", "horizon": False}
    if config.dt is not None:
        changes["dt"] = round(config.dt * 1000)
    if config.begin is not None:
        changes["origin"] = "first" if config.begin == "first" else 0
    if config.horizon is not None:
        changes["horizon"] = config.horizon
    if config.downsample is not None:
        changes["downsample"] = (config.downsample, config.downsample)
    if config.binary is not None:
        changes["binary"] = config.binary
    return replace(usual, **changes)


def frame_transform(config: DataConfig, spec: DataSpec, *, training: bool) -> FrameTransform:
    """What happens to a batch of frames on the device, with random changes if it is for
    training.
    """
    frames = config.frames
    if len(spec.shape) == 1 and (config.augment or frames.resize or frames.roll):
        raise ConfigError(
            "data.augment, data.frames.resize and data.frames.roll change pictures, and "
            f"{spec.name} "
            "has channels: remove them"
        )
    if any(step.kind == "autoaugment" for step in config.augment):
        raise ConfigError(
            "data.augment has autoaugment, whose policies are for images of 8 bits, and "
            f"{spec.name} has event frames: remove it"
        )
    if frames.deletion and frames.normalization != "none":
        raise ConfigError(
            f"data.frames.deletion = {frames.deletion} deletes counted events, and normalization = "
            f"{frames.normalization} leaves no counts: set one of them to its default"
        )
    return FrameTransform(
        config.augment if training else (),
        side=frames.resize,
        antialias=frames.antialias,
        roll=frames.roll if training else 0,
        deletion=frames.deletion if training else 0.0,
        choose=frames.choose if training else None,
    )


def _refuse_for_images(config: DataConfig) -> None:
    given = sorted(config.frames.model_fields_set) if config.frames != FramesConfig() else []
    keys = [f"data.frames.{key}" for key in given] + ["data.options"] * bool(config.options)
    if keys:
        raise ConfigError(
            f"{', '.join(keys)}: {config.name} holds images, not recordings of events; remove "
            f"{'them' if len(keys) > 1 else 'it'}"
        )


def _check_options(
    name: str, given: Mapping[str, str], known: Mapping[str, tuple[str, ...]]
) -> None:
    for key, value in given.items():
        if value not in known.get(key, ()):
            choices = "; ".join(f"{one} = {' or '.join(of)}" for one, of in known.items())
            raise ConfigError(
                f"data.options.{key} = {value!r}: {name} has {choices or 'no options'}"
            )
