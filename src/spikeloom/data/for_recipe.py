"""The data set of a recipe: what `[data]` names, checked, with `network.T` time steps."""

from collections.abc import Callable
from dataclasses import replace

from spikeloom.config.schema import Recipe
from spikeloom.data import registry
from spikeloom.data.base import DataSet
from spikeloom.data.spec import DataSpec
from spikeloom.errors import DataError

Accept = Callable[[DataSpec], object]


def load_data(recipe: Recipe, accept: Accept | None = None) -> DataSet:
    """The data set that `recipe` trains on; recordings are prepared as frames if they are not yet,
    and not before `accept` has seen what they are (and raises an error if it has no use for them).

    The shape of a sample is that of what the network is given: after `data.frames.resize`. Raises
    `ConfigError` if a key of the recipe does not fit the data set, `DataError` if files are missing
    or damaged.
    """
    given = None if accept is None else lambda spec: accept(_resized(recipe, spec))
    data = _as_stored(recipe, given)
    return replace(data, spec=_resized(recipe, data.spec))


def _resized(recipe: Recipe, spec: DataSpec) -> DataSpec:
    side = recipe.data.frames.resize
    if side is None or len(spec.shape) != 3:
        return spec
    return replace(spec, shape=(spec.shape[0], side, side))


def prepare(recipe: Recipe) -> str:
    """Prepare the frames that `recipe` trains on; one line that says what is there now."""
    return registry.source(recipe.data.name).describe(_as_stored(recipe))


def _as_stored(recipe: Recipe, accept: Accept | None = None) -> DataSet:
    T = getattr(recipe.network, "T", None)
    source = registry.source(recipe.data.name)
    try:
        if source.events is not None:
            return source.events.for_recipe(recipe.data, T, accept)
        return source.for_recipe(recipe.data, T)
    except OSError as error:
        raise DataError(f"{recipe.data.name}: {error.filename}: {error.strerror}") from error
